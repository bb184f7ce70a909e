"""Files on disk: atomic writes, locks, paths, file names, the run folder."""
