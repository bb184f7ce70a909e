"""One run: its identity, preparation, execution, manifest, and how to load it again."""
