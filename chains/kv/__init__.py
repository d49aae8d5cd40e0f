"""KV states of what was read: their names, where they are kept, how a prompt is brought in without reading twice."""
