"""A Slurm on this machine, and what is tried on it (scripts/test-slurm)."""
