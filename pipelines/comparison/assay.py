"""The planted arm of an ablation: whether its known harm was found, so that harm would have been seen."""

from __future__ import annotations

from pipelines.comparison.significance import MIN_SEEDS, TwoWay


def unseen(result: TwoWay | None) -> str:
    """Return why the planted harm was not found, as a clause; empty where it was."""
    if result is None or result.problem is not None or result.num_seeds < MIN_SEEDS:
        return "the planted harm of the assay has no test"
    low, high = result.ci95
    if high < 0:
        return ""
    return (
        f"the planted harm of the assay was not found ({result.difference:+.3g}, {low:+.3g} to {high:+.3g})"
    )
