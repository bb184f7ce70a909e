"""One file per task; a file dropped in here is a task by its name."""
