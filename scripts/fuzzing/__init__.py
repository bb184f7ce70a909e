"""What scripts/fuzz tries: mutated configurations and data files."""
