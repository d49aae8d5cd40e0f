"""The parts of a review: the change as hunks, the checks, what a model is shown and what of its answer holds."""
