"""Mutated configurations of every task, through `validate` and the start of `train`."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from random import Random
from unittest.mock import patch

import yaml

from pipelines.config.yaml_source import merge, override
from scripts.forks import run
from tests.pipelines.mutated_runs import TASKS, mutated, mutated_text, settings, why_refused

STARTED = 100
MOST_MEMORY = 6 << 30


def ended(folder: Path, seed: int, number: int) -> tuple[str, list[str], str]:
    """Return how one configuration ended, its settings, and what was said."""
    draw = Random(f"configs {seed} {number}")
    task = list(TASKS)[number % len(TASKS)]
    if draw.random() < 0.4:
        file = folder / "run.yaml"
        stated = merge([override(one) for one in settings(task)]).value
        text = mutated_text(yaml.safe_dump(stated, sort_keys=False), draw)
        file.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        command, case = [str(file)], [text]
    else:
        command = case = mutated(task, draw)
    status, _, said = run(["validate", *command], _bounded)
    if status != 0:
        return _named(status, "refused by validate"), case, said
    status, _, said = run(["train", *command, "--out", str(folder / "run")], _until_the_first_step)
    if status == STARTED:
        return "started", case, ""
    if status != 2:
        return _named(status, "failed"), case, said
    if (folder / "run").exists():
        return "refused and written", case, said
    last = said.strip().splitlines()[-1] if said.strip() else ""
    return why_refused(last) or "train cannot", case, said


def _named(status: int | str, name: str) -> str:
    if isinstance(status, str):
        return status
    return name if status in (0, 1, 2, 75) else "unknown status"


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


def _until_the_first_step() -> None:
    from pipelines.train.engine import Engine

    _bounded()
    patch.object(Engine, "take_step", lambda self, step: os._exit(STARTED)).start()
