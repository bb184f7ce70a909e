"""What the records of two equal runs must share beside their predictions: numbers, curves, the data read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.runs import identity
from pipelines.storage.names import MANIFEST, METRICS_LOG
from pipelines.storage.run_folder import RunFolder, read_log

# Of a manifest: what the settings, the data and equal conditions decide. Time and memory they do not.
DECIDED = (
    *("status", "task_state", "scores", "per_type", "metrics", "baselines", "primary", "num_parameters"),
    *("num_trained_parameters", "num_variant_parameters", "forward_flops", "num_steps", "best_step"),
    *("diverged_at", "proof", "dropout_paired", "batches_hash"),
)
OF_DATA = ("hashes", "rows", "num_examples", "num_features", "counts", "skipped")  # its notes name files
NOT_DECIDED = "seconds"  # of an event


def differences(old: Path, new: Path) -> Iterator[str]:
    """Yield what two runs of equal settings and conditions have stored otherwise; the data comes first."""
    yield from data_differences(old, new)
    yield from _differing(_manifest(old), _manifest(new), DECIDED, "")
    events = [[_decided(event) for event in read_log(run / METRICS_LOG)] for run in (old, new)]
    if all(events):
        pairs = list(zip(*events))
        place = next((at for at, pair in enumerate(pairs) if pair[0] != pair[1]), len(pairs))
        if place < max(map(len, events)):
            yield f"{METRICS_LOG}: from line {place + 1} on"


def data_differences(old: Path, new: Path) -> Iterator[str]:
    """Yield what two runs of equal settings, files and sources have read otherwise."""
    described = [RunFolder(run).identity() for run in (old, new)]
    if described[0] == described[1]:
        before, now = (_manifest(run).get("data", {}) for run in (old, new))
        yield from _differing(before, now, OF_DATA, "data.")


def _manifest(run: Path) -> Mapping[str, Any]:
    return RunFolder(run).manifest() or {}


def _differing(
    before: Mapping[str, Any], now: Mapping[str, Any], names: tuple[str, ...], where: str
) -> Iterator[str]:
    """Yield the entries that both have and that differ; an earlier version has fewer."""
    for name in names:
        if name in before and name in now:
            one, other = (_comparable({name: record[name]}) for record in (before, now))
            yield from (f"{MANIFEST}: {where}{line}" for line in identity.differences(one, other))


def _decided(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != NOT_DECIDED}


def _comparable(value: Any) -> Any:
    """Return a value in which NaN, which equals nothing, is text."""
    return json.loads(json.dumps(value), parse_constant=str)
