"""What finished runs left behind, read back for comparison, and the refusal to pair what is no pair."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import metric as metrics
from pipelines.errors import UserError
from pipelines.metric import Metric

PREDICTIONS, HASHES = "predictions.{}.jsonl", "predictions.{}.hashes"
SPLITS = ("test", "validation")  # the first that every run of a cell has been scored on
CONDITIONS = ("threads", "processes", "max_tokens", "device")
# Settings that rightly change which examples a step holds; anything else that does is a fault.
ORDER_SETTINGS = ("seed", "batch_size", "num_epochs", "max_steps", "data", "task", "model")


@dataclass(frozen=True)
class FinishedRun:
    """A run's manifest, and its per-example statistics on one split, rows in example order."""

    folder: Path
    label: str  # "gate, seed 2 of ner-minilm"
    split: str
    manifest: Mapping[str, Any]
    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    statistics: Mapping[str, np.ndarray]  # metric -> (examples, columns)

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """The metrics it was scored with, built again."""
        return {
            name: metrics.load(entry["module"], entry["options"])
            for name, entry in self.manifest["metrics"].items()
        }

    def score(self, name: str) -> float:
        return float(self.metrics[name].score(metrics.total(self.statistics[name])))

    @cached_property
    def prediction_hashes(self) -> tuple[bytes, ...]:
        """One per example, equal where the line of predictions (id, prediction, reference) is equal."""
        path, hashes = (self.folder / name.format(self.split) for name in (PREDICTIONS, HASHES))
        if hashes.exists():  # a record that travelled without the text of its data
            return tuple(map(bytes.fromhex, hashes.read_text(encoding="ascii").split()))
        return hashed_lines(path) if path.exists() else ()


def hashed_lines(predictions: Path) -> tuple[bytes, ...]:
    """One hash for each line of a file of predictions."""
    lines = predictions.read_bytes().splitlines()
    return tuple(hashlib.blake2b(line, digest_size=8).digest() for line in lines)


def common_split(folders: Sequence[Path]) -> str:
    """The split to compare on: test where all runs have it, else validation.

    Raises:
        UserError: no split that all of them were scored on.
    """
    for split in SPLITS:
        if all((folder / f"statistics.{split}.parquet").exists() for folder in folders):
            return split
    raise UserError(
        str(folders[0].parent),
        f"no split was scored by all of {', '.join(folder.name for folder in folders)}",
        accepted="run them again with --fresh",
    )


def read(folder: Path, label: str, split: str) -> FinishedRun:
    """A finished run.

    Raises:
        UserError: its files do not belong together: a column is missing, or a score of the manifest is
            not the one its statistics give.
    """
    import pyarrow
    import pyarrow.parquet

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    path = folder / f"statistics.{split}.parquet"
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        what = f"is damaged ({str(error).splitlines()[0]})"
        raise UserError(str(path), what, accepted="run it again with --fresh") from error
    statistics = {}
    for name, entry in manifest["metrics"].items():
        columns = [f"{name}.{column}" for column in entry["columns"]]
        missing = [column for column in columns if column not in table.column_names]
        if missing:
            raise UserError(str(path), f"the column {missing[0]} is missing", accepted="run it with --fresh")
        statistics[name] = np.stack([table[column].to_numpy() for column in columns], axis=1)
    ids, clusters = (tuple(map(str, table[name].to_pylist())) for name in ("id", "cluster"))
    run = FinishedRun(folder, label, split, manifest, ids, clusters, statistics)
    for name, stored in manifest.get("scores", {}).get(split, {}).items():
        found = run.score(name)
        if not math.isclose(found, stored, rel_tol=1e-9, abs_tol=1e-9):
            what = f"{split} {name} is {stored!r} in manifest.json and {found!r} by the statistics"
            raise UserError(str(folder), what, accepted="run it again with --fresh")
    return run


def check_same_examples(runs: Sequence[FinishedRun]) -> None:
    """Refuse runs that were not scored on the same examples in the same order.

    Raises:
        UserError: with the first place where two of them part.
    """
    for run in runs[1:]:
        rows, others = ([*zip(one.ids, one.clusters)] for one in (runs[0], run))
        if rows != others:
            place = next(
                (n for n, (a, b) in enumerate(zip(rows, others)) if a != b), min(len(rows), len(others))
            )
            raise UserError(
                f"{run.label} and {runs[0].label}",
                f"were scored on other {run.split} examples, from row {place + 1} on",
                accepted="run them on the same data: start again with --fresh",
            )


def check_pair(baseline: FinishedRun, arm: FinishedRun) -> list[str]:
    """Refuse two runs that cannot be compared; what is not shared but may differ comes back as clauses.

    Raises:
        UserError: one folder for both; other metrics, machine conditions or versions; or other batches
            although no setting says so.
    """
    pair = f"{arm.label} and {baseline.label}"
    again = "run both alike: start again with --fresh"
    if baseline.folder.resolve() == arm.folder.resolve():
        raise UserError(pair, "are one run in one folder", str(arm.folder), "--fresh gives each arm its own")
    for field, ours, theirs in _conditions(baseline.manifest, arm.manifest):
        raise UserError(pair, f"cannot be paired: {field} differs", f"{theirs} and {ours}", again)
    return [*_batches(baseline, arm, pair, again), *_dropout(baseline, arm)]


def _conditions(baseline: Mapping, arm: Mapping) -> Iterator[tuple[str, Any, Any]]:
    """Conditions under which equal runs may give other numbers, where they differ: (field, ours, theirs)."""
    ours, theirs = baseline["environment"], arm["environment"]
    fields = [(name, _kind(ours.get(name)), _kind(theirs.get(name))) for name in CONDITIONS]
    versions = ours.get("versions", {}), theirs.get("versions", {})
    for name in sorted({*versions[0], *versions[1]}):
        fields.append((f"the version of {name}", versions[0].get(name), versions[1].get(name)))
    for name in sorted({*baseline["metrics"], *arm["metrics"]}):
        signatures = (side["metrics"].get(name, {}).get("signature") for side in (baseline, arm))
        fields.append((f"the signature of {name}", *signatures))
    yield from (field for field in fields if field[1] != field[2])


def _kind(value: Any) -> Any:
    """A device without its number: cuda:0 and cuda:1 are one kind."""
    return value.split(":")[0] if isinstance(value, str) else value


def _batches(baseline: FinishedRun, arm: FinishedRun, pair: str, again: str) -> list[str]:
    if baseline.manifest.get("batches_hash") == arm.manifest.get("batches_hash"):
        return []
    ours, theirs = baseline.manifest["config"], arm.manifest["config"]
    differing = [name for name in ORDER_SETTINGS if ours.get(name) != theirs.get(name)]
    if not differing:
        raise UserError(pair, "saw different batches although no setting differs", accepted=again)
    return [f"batches are not shared: {', '.join(differing)} differ{'s' * (len(differing) == 1)}"]


def _dropout(baseline: FinishedRun, arm: FinishedRun) -> list[str]:
    paired = [run.manifest.get("dropout_paired") for run in (baseline, arm)]
    return ["dropout masks are not shared"] if False in paired else []


def share_identical(pairs: Sequence[tuple[FinishedRun, FinishedRun]]) -> float | None:
    """Share of examples with the same prediction in both runs of a pair, over all pairs; None if unknown."""
    hashes = [(a.prediction_hashes, b.prediction_hashes) for a, b in pairs]
    if not hashes or any(len(a) != len(b) or not a for a, b in hashes):
        return None
    return float(np.mean([x == y for a, b in hashes for x, y in zip(a, b)]))
