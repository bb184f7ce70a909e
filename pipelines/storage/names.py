"""Names of the files in an ablation folder; those of a run folder are in `run_folder.py`."""

from __future__ import annotations

ABLATION = "ablation.yaml"  # the resolved ablation
RUNS = "runs.json"  # cell/arm/seed -> name of the run's folder
SEARCH = "search.json"  # the learning rates that were tried, and those chosen
REGISTRATION = "registration.json"  # what was declared before the first run, and its hash
RESULTS = "results.json"  # every comparison and verdict
TOGETHER = "ablations.json"  # in a report of several ablations: their folders
