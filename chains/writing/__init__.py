"""The parts of writing code: places, drafts, edits as values, their checks and trials, and how they reach the disk."""
