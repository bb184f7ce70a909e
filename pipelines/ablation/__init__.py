"""Ablations: the grid of runs, their folder, search, registration, cost and results."""
