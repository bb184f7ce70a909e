"""What the rows of a user's files are, for `attnlab init --data`."""
