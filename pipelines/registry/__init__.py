"""What exists (variants, tasks, metrics, corpora) and its options, read from source without importing it."""
