"""The loop of AGENTS.md, as it stands there, for two proposals on a tiny generated corpus."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
from pathlib import Path

import yaml

from pipelines.ablation.cell import Outcome
from pipelines.actions import ablate, train
from pipelines.cli.main import main
from pipelines.config.load import run_from_dict
from pipelines.runs import identity
from tests.pipelines import stored_ablation as made
from tests.pipelines.cli.test_json import SCHEMA, fits
from tests.test_python_api import RUN

PAGE = Path(__file__).parents[3] / "AGENTS.md"
SIZES = {"train": 16, "validation": 8, "test": 20}
BASE = {
    "cells": {
        "toy": [
            {
                "task": {"name": "text_classification", "max_len": 32},
                "data": {"generated": {"name": "text_classification"} | SIZES},
                "model": RUN["model"],
                "max_steps": 2,
            }
        ]
    },
    "seeds": [1, 2, 3],
    "margin": {"accuracy": 90},  # settled at the first look
    "stopping": {"rule": "sequential", "most_seeds": 4},
    "keep": "none",
    "jobs": 2,
}


class HereAndNow:
    """An executor that makes each run in this process: trained, or with the skill of its attention."""

    at_a_time, when_stopped = 1, ""

    def __init__(self, skills=None):
        self.skills = skills

    def run(self, cells, *, stop, on_outcome):
        for cell in cells:
            run = run_from_dict(cell.config)
            if self.skills is None:
                train.train(run, str(cell.folder))
            else:
                name = "+".join(variant.name for variant in run.attention)
                made.finish(cell.folder, run, identity.describe(run), skill=self.skills[name])
            on_outcome(cell, Outcome("finished"))


def loop(monkeypatch, folder, base, executor):
    """Run the code of the page with `attnlab` in this process; return its answers and what it kept."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    folder.mkdir(exist_ok=True)
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(ablate, "executor_of", lambda *_, **__: executor)
    shell, answers = subprocess.run, []

    def run(command, **options):
        if command[0] != "attnlab":
            return shell(command, **options)
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            status = main(command[1:])
        answers.append(json.loads(shown.getvalue()))
        assert answers[-1]["status"] == status
        assert fits(answers[-1], SCHEMA)
        return subprocess.CompletedProcess(command, status, shown.getvalue())

    monkeypatch.setattr(subprocess, "run", run)
    names: dict[str, object] = {}
    exec(code, names)
    return answers, names["best"]


def arms_of(folder, number):
    return yaml.safe_load((folder / f"loop-{number}.yaml").read_text())["arms"]


def test_two_proposals_on_a_tiny_corpus(monkeypatch, tmp_path):
    answers, best = loop(monkeypatch, tmp_path, BASE, HereAndNow())
    looks = [answer["result"]["comparisons"][0]["ledger"] for answer in answers]
    kept = [answer["status"] == 0 and look["claimed"] for answer, look in zip(answers, looks)]
    first, second = (arms_of(tmp_path, number) for number in (1, 2))
    assert second["best"] == (first["new"] if kept[0] else [])
    assert best == (second["new"] if kept[1] else second["best"])
    lines = [json.loads(line) for line in (tmp_path / "runs" / "ledger.jsonl").read_text().splitlines()]
    assert len({line["ablation"] for line in lines}) == 2
    assert len({line["test"] for line in lines}) == 1  # so the ledger counts the looks of both
    assert looks[1] is None or looks[1]["looks"] == len(lines)


def test_it_keeps_what_is_better_and_drops_what_is_not(monkeypatch, tmp_path):
    skills = {"": 0.3, "gate": 0.97, "temperature": 0.96}
    stopping = {"rule": "sequential", "most_seeds": 8}
    base = {**BASE, "cells": {"toy": [made.RUN]}, "margin": {"f1": 40}, "seeds": [1, 2, 3, 4, 5, 6]}
    base["stopping"] = stopping
    answers, best = loop(monkeypatch, tmp_path, base, HereAndNow(skills))
    assert arms_of(tmp_path, 2)["best"] == best == [{"gate": {}}]
    assert [answer["status"] for answer in answers] == [0, 10]
    assert answers[0]["result"]["comparisons"][0]["ledger"]["claimed"]
    assert answers[1]["result"]["comparisons"][0]["word"] in ("worse", "equivalent")
