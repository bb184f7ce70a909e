"""Hold what a manifest says of training against the log: steps, the best one, its scores, what chose it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.config.load import run_from_dict
from pipelines.errors import UserError
from pipelines.storage.names import MANIFEST, METRICS_LOG
from pipelines.storage.run_folder import RunFolder, read_log
from pipelines.tasks.load import load_task

Json = Mapping[str, Any]
OF_AN_EVALUATION = {"event", "step", "split", "loss"}


def differences(run: RunFolder, manifest: Json) -> Iterator[tuple[str, str]]:
    """Yield (name, what is wrong) where a manifest says of its training what the log does not say.

    Raises:
        UserError: the log is damaged.
    """
    try:
        config = run_from_dict(manifest["config"])
        task = load_task(config)
    except UserError as error:
        yield (
            MANIFEST,
            f"has settings that cannot be read here, so its log is not looked at: {error.sentence()}",
        )
        return
    try:
        if manifest["task_state"]:
            task.restore(manifest["task_state"])
    except (LookupError, TypeError, ValueError, AttributeError):  # a foreign record may hold anything
        yield MANIFEST, "has learned of its task what the task cannot read (task_state)"
        return
    chosen = config.select_by or task.selects_by
    if manifest["primary"] != chosen:
        yield MANIFEST, f"says that {manifest['primary']} chose its step, and by its settings {chosen} does"
        return
    if chosen not in manifest["metrics"]:
        yield MANIFEST, f"has no score by {chosen}, which chose its step"
        return
    events = read_log(run.metrics_log)
    last = max((event["step"] for event in events if event.get("event") != "diverged"), default=None)
    is_whole = manifest["status"] == "finished"  # its last step is logged, that of a diverged run may not be
    said = manifest.get("num_steps")
    if last is not None and said is not None and (last > said or (is_whole and last < said)):
        yield MANIFEST, f"says that it took {said} steps; by {METRICS_LOG} it took {last}"
    best = _best([event for event in events if event.get("event") == "evaluation"], manifest)
    step = None if best is None else best["step"]
    if manifest.get("best_step") != step:
        yield MANIFEST, f"says that step {manifest.get('best_step')} was best; by {METRICS_LOG} it is {step}"
    elif best is not None:
        missing = sorted(best.keys() - manifest["metrics"].keys() - OF_AN_EVALUATION)
        if missing:
            yield MANIFEST, f"has no score by {', '.join(missing)}, and {METRICS_LOG} has"
        for name, score in manifest["scores"].get("validation", {}).items():
            if _number(best.get(name)) != score and not math.isnan(score):
                what = f"says validation {name} {score!r}; by {METRICS_LOG} it is {best.get(name)!r}"
                yield MANIFEST, what


def _best(evaluations: Sequence[Json], manifest: Json) -> Json | None:
    """Return the evaluation that a training loop keeps: the first that no later one exceeds."""
    name, best, most = manifest["primary"], None, math.nan
    sign = 1 if manifest["metrics"][name]["higher_is_better"] else -1
    for event in evaluations:
        score = sign * _number(event.get(name))
        if best is None or score > most:
            best, most = event, score
    return best


def _number(logged: object) -> float:
    """Return a number of the log, in which one that is not finite is text."""
    try:
        return float(logged) if isinstance(logged, int | float | str) else math.nan
    except ValueError:
        return math.nan
