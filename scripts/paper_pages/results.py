"""The results of the papers' ablations that are kept in the repository: comparisons, no runs and no texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.config import yaml_source

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "configs" / "papers"
KEPT = REPOSITORY / "docs" / "results" / "papers"
FIELDS = (
    "cell",
    "arm",
    "metric",
    "higher_is_better",
    "baseline_scores",
    "arm_scores",
    "difference",
    "ci95",
    "p",
    "p_holm",
    "margin",
    "mde80",
    "n_examples",
    "verdict",
    "reason",
)


def papers() -> dict[str, dict[str, Any]]:
    """Return the values of each file of configs/papers, by its name."""
    return {file.stem: yaml_source.read(file).value for file in sorted(CONFIGS.glob("*.yaml"))}


def keep(runs: Path) -> Iterator[str]:
    """Copy the primary comparisons of the finished ablations in a folder; yield the names that were there."""
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in papers():
        source = runs / name / "results.json"
        if source.is_file():
            found = json.loads(source.read_text(encoding="utf-8"))
            rows = [one for one in found["comparisons"] if one["primary"]]
            kept = {
                "ablation": found["hash"],
                "environment": found["environment"],
                "comparisons": [{field: one[field] for field in FIELDS} for one in rows],
            }
            (KEPT / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            yield name


def kept(name: str) -> dict[str, Any] | None:
    """Return the results that are kept of a paper, or None."""
    file = KEPT / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
