"""CPU seconds from command to first training step: a run, and a cell of an ablation, against a script.

Cold: nothing is cached. Warm: another seed has run, so the tokens are there. Every process reads the same
2,000 sentences of the Broad Twitter Corpus.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from scripts.benchmarks.cases import CONFIGS, REPOSITORY, mirror
from scripts.benchmarks.table import Comparison, Table, compared

TURNS = 3
ROWS = 2000
SETTINGS = [
    str(CONFIGS / "task/ner-btc.yaml"),
    str(CONFIGS / "model/minilm.yaml"),
    f"data.max_train_examples={ROWS}",
    "data.max_validation_examples=50",
    "data.max_test_examples=1",
    "max_steps=1",
]


def run() -> Table:
    mirror()
    cold, warm, cells, script = [], [], [], []
    for turn in range(TURNS):
        script.append(_script(turn))
        with tempfile.TemporaryDirectory() as folder:
            cold.append(_train(Path(folder) / "cold", seed=turn))
            warm.append(_train(Path(folder) / "warm", seed=turn + 100))
            cells.append(_cell(Path(folder)))
    unit = "CPU seconds"
    return compared(
        [
            Comparison("one run, cold", unit, cold, script, 0.5, at_least=False),
            Comparison("one run, tokens cached", unit, warm, script, 0.5, at_least=False),
            Comparison("a cell of an ablation", unit, cells, script, 0.15, at_least=False),
        ]
    )


def _script(seed: int) -> float:
    script = str(Path(__file__).with_name("plain_script.py"))
    options = ["ner", "--train", str(ROWS), "--validation", "1", "--seed", str(seed), "--first-step"]
    # -P: without it torch would import the statistics.py beside the script instead of Python's own.
    command = [sys.executable, "-P", script, *options]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(finished.stdout.splitlines()[-1])["first_step_cpu_seconds"]


def _train(out: Path, seed: int) -> float:
    command = [sys.executable, "-m", "pipelines", "train", *SETTINGS, f"seed={seed}", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY)
    return _startup(out)


def _cell(folder: Path) -> float:
    """Return the mean over the cells of a small ablation; shared work is done once, in the fork server."""
    data = {"max_train_examples": ROWS, "max_validation_examples": 50, "max_test_examples": 1}
    ablation = {
        "cells": {"ner": [str(CONFIGS / "task/ner-btc.yaml"), str(CONFIGS / "model/minilm.yaml")]},
        "set": {"max_steps": 1, "data": data},
        "arms": {"stock": [], "gate": ["gate"]},
        "seeds": [1, 2, 3],
    }
    file = folder / "ablation.yaml"
    file.write_text(yaml.safe_dump(ablation), encoding="utf-8")
    command = [sys.executable, "-m", "pipelines", "ablate", str(file), "--out", str(folder / "ablations/one")]
    subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY)
    seconds = [_startup(path.parent) for path in (folder / "ablations/cells").glob("*/manifest.json")]
    return sum(seconds) / len(seconds)


def _startup(run: Path) -> float:
    return json.loads((run / "manifest.json").read_text(encoding="utf-8"))["startup_cpu_seconds"]
