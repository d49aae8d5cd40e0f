"""A git repository -> chunks -> keywords and vectors, on disk, always matching the tree."""
