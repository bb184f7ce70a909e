"""Which variants, tasks, metrics and corpora exist, read from their source without importing it."""
