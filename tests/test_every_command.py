"""Every command of every page is run here, in small, or by the test that a table names, or is told why not.

What no row of the table `ELSEWHERE` fits is run here, page by page, in a folder that has what the page takes
for granted.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import yaml

from pipelines.cli.main import main
from tests import guide
from tests.conftest import REPOSITORY
from tests.test_page_commands import PAGES

# (page, pattern of the command, the test that runs it, or why nothing does)
ELSEWHERE = (
    (r"README\.md", r"", "test_page_commands.py, on a mirror"),
    (r"docs/tutorial\.md", r"", "actions/test_plan.py"),
    (r"docs/write-a-task\.md", r"", "test_write_a_task.py"),
    (r"docs/write-a-variant\.md", r"", "custom_attention/test_write_a_variant.py"),
    (r"docs/results", r"plain_script|scripts/matrix", "hours: runs/test_matrix.py validates"),
    (r"docs/results", r"", "hours: test_shipped_configs.py trains each task in small"),
    (r"docs/guarantees\.md", r"", "hours: test_mutations.py, test_damage.py and test_fuzz.py run parts"),
    (r"", r"^(?:scripts/|\.ci/|python )", "installs, or runs the tests that this is one of"),
    (r"", r"^(?:pip|hf) ", "needs a network or an account"),
    (r"", r"hub:|push runs/\w+ ORG/NAME(?! --dry)", "the Hub: publish/test_whole_way.py"),
    (r"", r"attnlab fetch|openai-community", "the Hub: mirror/test_fetch.py, runs/test_pretrained.py"),
    (r"", r"founding|ner-wnut17", "real data: test_shipped_configs.py; adapters in models/test_lora.py"),
    (r"docs/json\.md", r"", "cli/test_json.py"),
    (r"docs/papers\.md", r"ablate", "real data: test_papers.py loads every file at both scales"),
    (r"", r"attnlab compare", "files of others: predictions/test_read.py"),
    (r"docs/clusters\.md", r"slurm|parallel|while read|run-cell DIR", "a scheduler: test_slurm.py"),
    (r"docs/clusters\.md", r"executor (?:ray|kube|hf)|^(?:ray|kubectl|qsub)", "an engine: test_engines.py"),
    (r"docs/clusters\.md", r"runs/toy", "Grid Engine: test_engines.py"),
    (r"docs/ablations\.md", r"--replay", "trains once more: actions/test_replay.py"),
    (r"docs/ablations\.md", r"attnlab reproduce", "trains all once more: ablation/test_sides.py"),
    (r"docs/tasks\.md", r"train \.\.\. data\.streaming=true", "an ellipsis: data/test_streaming.py"),
)  # fmt: skip
TINY = {
    "task": {"name": "ner", "max_len": 32, "overlap": 4},
    "data": {"generated": {"name": "ner", "train": 12, "validation": 6, "test": 6}},
    "model": {
        "architecture": "bert",
        "family": "encoder",
        "vocab_size": 300,
        "config": {
            "hidden_size": 24,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 24,
        },
    },
    "max_steps": 1,
    "diagnostics_every_steps": None,
}
ABLATION = {
    "cells": {"small": ["run.yaml"]},
    "arms": {"stock": [], "gate": ["gate"]},
    "seeds": [1, 2],
    "primary": {"ner": "f1"},
    "margin": {"f1": 1},
    "keep": "none",
}


IN_SMALL = {  # settings after the words of a command
    "train": ["max_steps=1"],
    "train configs/task/lm-generated.yaml": ["max_steps=1", "data.generated.train=20"],
    "ablate ablation.yaml": ["set.max_steps=1", "seeds=[1]"],
}


def elsewhere(page: str, command: str) -> str | None:
    """Return the test that runs a command, or why nothing does; None where it is run here."""
    fits = (why for where, what, why in ELSEWHERE if re.match(where, page) and re.search(what, command))
    return next(fits, None)


def commands(page: str) -> list[str]:
    """Return what of a page is run here: what is not marked offline, which `test_offline_lines.py` runs."""
    offline = {step.command.replace(".venv/bin/", "") for step in guide.offline_steps(page)}
    return [one for one in guide.every_command(page) if one not in offline and elsewhere(page, one) is None]


HERE = [page for page in PAGES if commands(page)]


def test_most_pages_have_commands_and_each_row_of_the_table_has_one():
    found = [(page, command) for page in PAGES for command in guide.every_command(page)]
    assert len(found) > 90
    assert {"AGENTS.md", "docs/ablations.md", "docs/clusters.md", "docs/tasks.md", "docs/share.md"} <= set(
        HERE
    )
    named = {elsewhere(page, command) for page, command in found}
    assert [why for _, _, why in ELSEWHERE if why not in named] == []


def test_the_tests_that_the_table_names_exist():
    for _, _, why in ELSEWHERE:
        for name in re.findall(r"[\w/]+\.py", why):
            assert [*REPOSITORY.glob(f"tests/**/{name}")], name


# ---- what the pages take for granted
@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with the configurations, a run's file, an ablation's file and some data."""
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(TINY))
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(ABLATION))
    tagged = "\n\n".join("Ada B-PER\nBell I-PER\nslept O\nin O\nOslo B-LOC" for _ in range(12))
    for name in ("train.conll", "dev.conll"):
        (tmp_path / name).write_text(f"{tagged}\n")
    (tmp_path / "lines.txt").write_text("Ada Bell left Oslo .\n")
    with open(tmp_path / "train.csv", "w", newline="") as file:
        rows = (
            (f"hour {n} was {word}", tone)
            for n in range(20)
            for word, tone in (("dull", "no"), ("fun", "yes"))
        )
        csv.writer(file).writerows([("remark", "mood"), *rows])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(command: str) -> str:
    """Run a command of attnlab in this process, in small, and return what it printed."""
    line, _, target = command.partition(" > ")
    words = [word.replace("/shared/", "") for word in shlex.split(line)][1:]
    words = ["configs/model/bert-small-scratch.yaml" if word == "..." else word for word in words]
    settings = IN_SMALL.get(" ".join(words[:2]), IN_SMALL.get(words[0], []))
    printed = StringIO()
    with redirect_stdout(printed):
        assert main([*words, *settings]) == 0, command
    if target:
        Path(target.strip()).write_text(printed.getvalue())
    return printed.getvalue()


def one_run(folder: Path) -> None:
    """A finished run."""
    ran("attnlab train run.yaml --out runs/one")


def two_ablations(folder: Path) -> None:
    """Two ablations whose runs are there already under the names of others."""
    ran("attnlab ablate my.yaml --out runs/mine")
    for name in ("bert", "gpt2"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**ABLATION, "cells": {name: ["run.yaml"]}}))
        ran(f"attnlab ablate {name}.yaml --out runs/{name}")


BEFORE: dict[str, Callable[[Path], None]] = {
    "docs/ablations.md": two_ablations,
    "docs/clusters.md": two_ablations,
    "docs/share.md": one_run,
    "docs/tasks.md": one_run,
}


@pytest.mark.parametrize("page", HERE)
def test_the_commands_of_a_page_work_one_after_the_other(page, folder):
    if page in BEFORE:
        BEFORE[page](folder)
    for command in commands(page):
        ran(command)
