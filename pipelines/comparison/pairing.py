"""Whether two runs may be compared: they may differ in their arm only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipelines.comparison.scored_run import Manifest, ScoredRun
from pipelines.errors import UserError

SIGNATURE = "the signature of"
CONDITIONS = ("threads", "processes", "max_tokens", "device")

# Settings that may change which examples a step holds; if anything else does, it is a fault of the program.
ORDER_SETTINGS = ("seed", "batch_size", "num_epochs", "max_steps", "data", "task", "model")


def check_same_examples(runs: Sequence[ScoredRun]) -> None:
    """Refuse runs that were not scored on the same examples in the same order.

    Raises:
        UserError: with the first row where two of them differ.
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


def check_pair(baseline: ScoredRun, arm: ScoredRun) -> list[str]:
    """Refuse two runs that cannot be compared; return clauses on what they do not share but may differ in.

    Raises:
        UserError: both have one folder; metrics, machine conditions or versions differ; or their batches
            differ although no setting does.
    """
    pair = f"{arm.label} and {baseline.label}"
    again = "run both alike: start again with --fresh"
    if baseline.folder.resolve() == arm.folder.resolve():
        raise UserError(pair, "are one run in one folder", str(arm.folder), "--fresh gives each arm its own")
    for field, baseline_value, arm_value in _conditions(baseline.manifest, arm.manifest):
        raise UserError(
            pair, f"cannot be paired: {field} differs", f"{arm_value} and {baseline_value}", again
        )
    return [*_batches(baseline, arm, pair, again), *_dropout(baseline, arm)]


def check_outputs(baseline: ScoredRun, arm: ScoredRun) -> list[str]:
    """Refuse two files of predictions or scores that are one, or were scored otherwise; return clauses.

    How they were made is not known, or not to be changed any more: what differs is told.

    Raises:
        UserError: both are one file, or the metrics differ.
    """
    pair = f"{arm.label} and {baseline.label}"
    if baseline.manifest["source"] == arm.manifest["source"]:
        raise UserError(pair, "are one file", arm.manifest["source"], "give each side its own")
    differing = list(_conditions(baseline.manifest, arm.manifest))
    for field, baseline_value, arm_value in differing:
        if field.startswith(SIGNATURE):
            what, came = f"cannot be paired: {field} differs", f"{arm_value} and {baseline_value}"
            raise UserError(pair, what, came, "score both alike")
    known = baseline.manifest["environment"] and arm.manifest["environment"]
    return [f"{field} differs: {theirs} and {ours}" for field, ours, theirs in differing if known]


def _conditions(baseline: Manifest, arm: Manifest) -> Iterator[tuple[str, object, object]]:
    """Yield (field, baseline's, arm's) of differing conditions that may change the numbers of equal runs."""
    environments = baseline["environment"], arm["environment"]
    fields: list[tuple[str, object, object]] = [
        (name, _kind(environments[0].get(name)), _kind(environments[1].get(name))) for name in CONDITIONS
    ]
    versions = [one.get("versions", {}) for one in environments]
    for name in sorted({*versions[0], *versions[1]}):
        fields.append((f"the version of {name}", versions[0].get(name), versions[1].get(name)))
    for name in sorted({*baseline["metrics"], *arm["metrics"]}):
        signatures = [side["metrics"].get(name, {}).get("signature") for side in (baseline, arm)]
        fields.append((f"{SIGNATURE} {name}", signatures[0], signatures[1]))
    yield from (field for field in fields if field[1] != field[2])


def _kind(value: object) -> object:
    """Return a device without its number: cuda:0 and cuda:1 are one kind."""
    return value.split(":")[0] if isinstance(value, str) else value


def _batches(baseline: ScoredRun, arm: ScoredRun, pair: str, again: str) -> list[str]:
    if baseline.manifest.get("batches_hash") == arm.manifest.get("batches_hash"):
        return []
    configs = baseline.manifest["config"], arm.manifest["config"]
    differing = [name for name in ORDER_SETTINGS if configs[0].get(name) != configs[1].get(name)]
    if not differing:
        raise UserError(pair, "saw different batches although no setting differs", accepted=again)
    return [f"batches are not shared: {', '.join(differing)} differ{'s' * (len(differing) == 1)}"]


def _dropout(baseline: ScoredRun, arm: ScoredRun) -> list[str]:
    paired = [run.manifest.get("dropout_paired") for run in (baseline, arm)]
    return ["dropout masks are not shared"] if False in paired else []


def share_identical(pairs: Sequence[tuple[ScoredRun, ScoredRun]]) -> float | None:
    """Return the share of examples with equal predictions in a pair, over all pairs; None if unknown."""
    hashes = [(a.prediction_hashes, b.prediction_hashes) for a, b in pairs]
    if not hashes or any(len(a) != len(b) or not a for a, b in hashes):
        return None
    return float(np.mean([x == y for a, b in hashes for x, y in zip(a, b)]))
