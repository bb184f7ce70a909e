"""Files: atomic writes, locks, paths, the layout of a run folder."""
