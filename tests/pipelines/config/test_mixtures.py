"""Files and overrides that would be a mixture: two tasks, two models, arms of a file and a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cli.main import main
from pipelines.config.load import load_ablation, load_run, replacements
from pipelines.errors import UserError

RUN = """
task: ner
data: {generated: {name: ner, train: 70, validation: 30}}
model: {architecture: bert, family: encoder}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path


def named(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return [f"{name}.yaml" for name in files]


SECOND_TASK = "{task: {name: question_answering, max_len: 99}, data: {generated: {name: question_answering}}}"


@pytest.mark.parametrize(
    ("section", "second"),
    [
        ("task", SECOND_TASK),
        ("task", "task: text_classification"),
        ("task", "{task: ner, data: {name: org/rows}}"),
        ("model", "model: {name: org/bert, family: encoder}"),
        ("model", "model: {architecture: gpt2, family: decoder}"),
    ],
)
def test_two_files_that_name_different_tasks_or_models_are_refused(folder, section, second):
    with pytest.raises(UserError) as refused:
        load_run(["run.yaml", *named(folder, second=second)])
    assert refused.value.sentence().startswith(
        f"second.yaml:1: names a {section}, and run.yaml already names one; use one file with a {section}"
    )


def test_they_are_refused_in_the_cell_of_an_ablation_too(folder):
    named(
        folder, second=SECOND_TASK, two="cells: {a: [run.yaml, second.yaml]}\narms: {stock: []}\nseeds: [1]"
    )
    with pytest.raises(UserError, match=r"names a task, and .*run.yaml already names one"):
        load_ablation("two.yaml")


def test_a_second_file_may_add_to_the_task_and_the_model(folder):
    more = named(folder, more="{task: {max_len: 33}, model: {config: {hidden_size: 48}}, seed: 3}")
    run = load_run(["run.yaml", *more], ["task.name=ner", "model.architecture=bert"])
    assert (run.task.options["max_len"], run.model.config["hidden_size"], run.seed) == (33, 48, 3)


GRID = "cells: {a: [run.yaml]}\narms: {stock: [], gate: [gate]}\nseeds: [1]\nmargin: {f1: 2, f1_strict: 3}\n"


def test_all_arms_on_the_command_line_replace_those_of_the_file(folder):
    named(folder, grid=GRID)
    whole, one = "arms={stock: [], cap: [softcap]}", "arms.cap=[softcap]"
    assert list(load_ablation("grid.yaml", [whole]).arms) == ["stock", "cap"]
    assert list(load_ablation("grid.yaml", [one]).arms) == ["stock", "gate", "cap"]
    assert list(load_ablation("grid.yaml", [whole, "arms.gate=[gate]"]).arms) == ["stock", "cap", "gate"]
    assert dict(load_ablation("grid.yaml", ["margin={f1: 1}"]).margin) == {"f1": 1}
    assert dict(load_ablation("grid.yaml", ["margin.f1=1"]).margin) == {"f1": 1, "f1_strict": 3}
    assert replacements("grid.yaml", [one, "seeds=[1, 2]"]) == []
    assert replacements("grid.yaml", [whole]) == [
        "arms={...} replaces the arms of grid.yaml (stock, gate); arms.NAME=... changes one"
    ]


@pytest.mark.parametrize("command", ["validate", "ablate"])
def test_it_says_so(folder, command, capsys):
    named(folder, grid=GRID)
    more = ["--dry-run", "--out", "out"] if command == "ablate" else []
    assert main([command, "grid.yaml", "arms={stock: []}", *more]) == 0
    said = capsys.readouterr()
    assert "arms={...} replaces the arms of grid.yaml (stock, gate)" in said.out + said.err
