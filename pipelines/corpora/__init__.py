"""One file per generated corpus; a file dropped in here is a corpus by its name."""
