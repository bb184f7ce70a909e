"""Names of the files in an ablation folder."""

from __future__ import annotations

RUNS, ABLATION, SEARCH, RESULTS = "runs.json", "ablation.yaml", "search.json", "results.json"


TOGETHER = "ablations.json"  # where a report of several ablations names their folders
