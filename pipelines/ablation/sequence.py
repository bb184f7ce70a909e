"""A sequential ablation: whether its comparisons are settled, or another seed is to be run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.comparison.words import DIFFERENT
from pipelines.config.load import AblationConfig, ablation_from_dict
from pipelines.storage import reading
from pipelines.storage.names import ABLATION

SETTLED = (*DIFFERENT, "equivalent", "identical", "unstable")  # more seeds would not turn the word


def with_next_seed(config: AblationConfig, results: Mapping[str, Any]) -> AblationConfig | None:
    """Return the ablation with one more seed; None where its stopping rule adds none.

    Args:
        results: what the seeds so far have shown.
    """
    if config.stopping is None or len(config.seeds) >= config.stopping.most_seeds:
        return None
    if any(failure["status"] != "diverged" for failure in results["failures"]):
        return None
    return None if all(map(settled, primary(results))) else config.with_next_seed()


def resumed(config: AblationConfig, folder: Path) -> AblationConfig:
    """Return the ablation with the seeds that an earlier start has added in the same folder."""
    if config.stopping is None or not reading.is_there(folder / ABLATION):
        return config
    values = reading.yaml_mapping(folder / ABLATION, "delete it and start again")
    stored = ablation_from_dict(values)
    same = stored.stopping is not None and stored.declared_seeds == config.seeds
    if not same or len(stored.seeds) > config.stopping.most_seeds:
        return config
    stopping = config.stopping.model_copy(update={"first_seeds": len(config.seeds)})
    return config.model_copy(update={"seeds": stored.seeds, "stopping": stopping})


def primary(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the comparisons that decide."""
    return [row for row in results["comparisons"] if row["primary"]]


def settled(row: Mapping[str, Any]) -> bool:
    """Return whether a comparison is decided for good."""
    return str(row["verdict"]).startswith(SETTLED)


def sentence(config: AblationConfig, results: Mapping[str, Any]) -> str:
    """Describe where a sequential ablation stands."""
    rows = primary(results)
    assert config.stopping is not None
    return (
        f"{len(config.seeds)} of at most {config.stopping.most_seeds} seeds: "
        f"{sum(map(settled, rows))} of {len(rows)} comparisons settled"
    )
