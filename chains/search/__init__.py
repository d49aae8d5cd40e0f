"""From a query to ordered hits, and from a question to what a model reads for it."""
