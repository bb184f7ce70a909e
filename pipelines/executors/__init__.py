"""Places where the runs of an ablation run: this machine, or a Slurm cluster."""
