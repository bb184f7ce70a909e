"""The configuration: schemas of a run and an ablation, YAML with line numbers, checks; no torch."""
