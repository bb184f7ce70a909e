"""`inspect` says what rows lack, and reads one row, many and none, in every task of texts."""

from __future__ import annotations

import json
from functools import cache
from importlib import import_module

import pytest

from pipelines.cli.main import main
from pipelines.registry.load import load_class
from pipelines.tasks.base import Task
from tests.pipelines.tasks.writing import SIZES

FAMILY = {
    "ner": "encoder",
    "question_answering": "encoder",
    "text_classification": "decoder",
    "language_modelling": "decoder",
    "summarization": "encoder_decoder",
    "translation": "encoder",
    "generative_question_answering": "encoder_decoder",
}
SHORT = {"max_len": 64, "overlap": 4}
WRITTEN = {"max_source_len": 48, "max_target_len": 12}


@cache
def rows_of(task: str, count: int) -> list[dict]:
    corpus = task.removeprefix("generative_")
    return import_module(f"pipelines.corpora.{corpus}").generate(count, 3, "train")


def columns(task: str) -> dict[str, str]:
    task_class = load_class(f"pipelines.tasks.{task}", Task)
    return {name: column.default for name, column in task_class.columns.items()}


def targets(task: str) -> set[str]:
    task_class = load_class(f"pipelines.tasks.{task}", Task)
    return {name for name, column in task_class.columns.items() if column.is_target}


@pytest.fixture
def inspected(tmp_path, capsys):
    """A function that inspects rows of a task, and returns the exit status and what was printed."""

    def run(task: str, rows: list[dict]) -> tuple[int, str, str]:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        architecture, sizes = SIZES[FAMILY[task]]
        options = dict(SHORT) if "max_len" in options_of(task) else dict(WRITTEN)
        options = {name: value for name, value in options.items() if name in options_of(task)}
        settings = [f"task={task}", *(f"task.{name}={value}" for name, value in options.items())]
        settings += [f"data.train={file}", f"data.validation={file}"]
        names = [name for name in rows_of(task, 4)[0] if name in columns(task)]
        settings += [f"data.columns.{name}={name}" for name in names]
        settings += [f"model.architecture={architecture}", f"model.family={FAMILY[task]}"]
        settings += ["model.vocab_size=400", "device=cpu"]
        settings += [f"model.config.{name}={json.dumps(value)}" for name, value in sizes.items()]
        status = main(["inspect", *settings])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def options_of(task: str) -> list[str]:
    import inspect

    task_class = load_class(f"pipelines.tasks.{task}", Task)
    return [name for base in task_class.__mro__ for name in inspect.signature(base.__init__).parameters]


@pytest.mark.parametrize("task", [task for task in FAMILY if task != "language_modelling"])
def test_rows_without_targets_are_told_with_the_column_that_is_missing(inspected, task):
    lacking = [{k: v for k, v in row.items() if k not in targets(task)} for row in rows_of(task, 4)]
    status, _, said = inspected(task, lacking)
    assert status == 2
    assert all(" has no column '" in line and "data.columns." in line for line in said.splitlines())
    assert any(f"has no column '{name}'" in said for name in targets(task))
    some = [*rows_of(task, 4)[:2], *lacking[2:]]
    status, _, said = inspected(task, some)
    assert status == 2
    assert "rows.jsonl, row 3" in said
    assert "missing or null" in said or "has no answer" in said


@pytest.mark.parametrize("task", FAMILY)
def test_one_row_is_enough_or_told(inspected, task):
    status, out, said = inspected(task, rows_of(task, 4)[:1])
    if task == "text_classification":
        assert status == 2
        assert "labels must be two or more" in said
        assert said.count("\n") == 1
    else:
        assert status == 0, said
        assert "train: 1 example in " in out


@pytest.mark.parametrize("task", FAMILY)
def test_no_row_is_told(inspected, task):
    status, _, said = inspected(task, [])
    assert status == 2
    assert "the file is empty" in said or "has no rows" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("task", ["ner", "text_classification", "language_modelling"])
def test_a_thousand_rows_are_counted(inspected, task):
    status, out, said = inspected(task, rows_of(task, 1000))
    assert status == 0, said
    assert "train: 1,000 examples in " in out
