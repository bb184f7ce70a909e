"""Ablations: the grid of runs, their folders, search, registration, cost and results."""
