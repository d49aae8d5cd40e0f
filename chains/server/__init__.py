"""The way to a model server: its address, the connection, what it tells of itself, what goes wrong."""
