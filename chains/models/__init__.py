"""What model files are: their headers, what they take, whether they fit a machine, how fast they are there."""
