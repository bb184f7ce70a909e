"""Folders to damage, each made by attnlab itself: an ablation, a run, a stopped run, a cache, a push."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import yaml

from scripts.forks import run
from scripts.tiny_run import tiny_run

STOPPED_AT, STEPS = 5, 7
RUN = tiny_run(train=24, held_out=8)
ABLATION = {
    "cells": {"toy": {**RUN, "max_steps": 3}},
    "arms": {"stock": [], "gate": ["gate"]},
    "seeds": [1, 2],
    "search": {"learning_rate": [0.001, 0.01], "seeds": [7]},
    "keep": "best_seed",
}


def ablation(place: Path) -> None:
    """Make a finished ablation with a search, and its reproduction."""
    file = place / "small.yaml"
    file.write_text(yaml.safe_dump(ABLATION))
    _must("ablate", file, "--out", place / "runs" / "small")
    _must("reproduce", place / "runs" / "small", "--out", place / "again")


def one_run(place: Path) -> None:
    """Make a finished run, its reproduction, and lines to predict."""
    (place / "lines.txt").write_text("the miller met someone\n")
    _must(*training(place, attention=["temperature"]))
    _must("reproduce", place / "run", "--out", place / "again")


def stopped(place: Path) -> None:
    """Make a run that was asked to stop, with its checkpoints."""
    _must(*training(place, attention=["temperature"]), before=stop_at_a_step, status=75)


def cache(place: Path) -> None:
    """Make the cache of a run, without the run."""
    _must(*training(place, attention=["temperature"]))
    shutil.rmtree(place / "run")


def pushed(place: Path) -> None:
    """Make a finished run with the staged folder of a push."""
    one_run(place)
    _must("push", place / "run", "org/name", "--dry-run", before=without_loading)


def unfinished(place: Path) -> None:
    """Make an ablation of which one run has failed, of the finished one beside it."""
    shutil.copytree(place.with_name("ablation"), place, dirs_exist_ok=True)
    run_folder = kept_run(place / "runs")
    shutil.rmtree(run_folder / "model")
    for name in ("manifest.json", "statistics.test.parquet", "predictions.test.jsonl"):
        (run_folder / name).unlink()
    (run_folder / "failure.txt").write_text("killed by SIGKILL\n")
    (run_folder / "starts.json").write_text('{"step": 0, "fruitless": 1}\n')


def kept_run(runs: Path, holds: str = "model") -> Path:
    """Return a run of an ablation that holds a name, such as its model."""
    return min(path.parent for path in (runs / "cells").glob(f"*/{holds}"))


MAKERS: dict[str, Callable[[Path], None]] = {
    "ablation": ablation,
    "unfinished": unfinished,
    "run": one_run,
    "stopped": stopped,
    "cache": cache,
    "push": pushed,
}


def training(place: Path, **settings: object) -> list[str]:
    """Return the command that trains the run of a place."""
    file = place / "run.yaml"
    file.write_text(yaml.safe_dump({**RUN, "max_steps": STEPS, **settings}))
    return ["train", str(file), "--out", str(place / "run")]


def _must(*command: object, before: Callable[[], object] = lambda: None, status: int = 0) -> None:
    ended = run([str(word) for word in command], before)
    assert ended.status == status, ended


def stop_at_a_step() -> None:
    """Ask the run of this process to stop in a step, as Slurm does."""
    from pipelines.train.batches import Step
    from pipelines.train.engine import Engine, PendingStep

    take = Engine.take_step

    def taking(engine: Engine, step: Step) -> PendingStep:
        if step.number == STOPPED_AT:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(engine, step)

    patch.object(Engine, "take_step", taking).start()


def without_loading() -> None:
    """Leave out the fresh process in which a push loads what it sends: it reads no record."""
    from pipelines.publish import load_check

    load_check.check_loading = lambda folder, ways: {way.name: 0.0 for way in ways}
