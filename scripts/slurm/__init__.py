"""A Slurm cluster on this machine and the scenarios that run on it (scripts/test-slurm)."""
