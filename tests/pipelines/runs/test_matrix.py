"""The matrix has every task on every family, and some of its cells learn; docs/results.md has all seeds."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
import torch

from pipelines.ablation.cell import Cell
from pipelines.config.load import load_ablation
from pipelines.runs.execute import execute
from pipelines.storage.run_folder import RunFolder
from pipelines.train.progress import Reporter

REPOSITORY = Path(__file__).parents[3]
MATRIX = load_ablation(str(REPOSITORY / "configs" / "matrix.yaml"))
TASKS = ("ner", "question_answering", "summarization", "translation", "language_modelling")
FAMILIES = ("encoder", "decoder", "encoder_decoder")


@pytest.fixture(scope="module")
def script():
    """scripts/matrix as a module."""
    loader = SourceFileLoader("matrix", str(REPOSITORY / "scripts" / "matrix"))
    module = module_from_spec(spec_from_loader("matrix", loader))
    loader.exec_module(module)
    return module


def test_all_fifteen_cells_stand_in_it_with_three_seeds():
    there = {(run.task.name, run.model.family) for run in MATRIX.cells.values()}
    assert {(task, family) for task in TASKS for family in FAMILIES} <= there
    assert ("generative_question_answering", "encoder_decoder") in there
    assert MATRIX.seeds == (1, 2, 3)
    assert all(run.data.generated is not None and run.model.name is None for run in MATRIX.cells.values())


@pytest.mark.parametrize(("name", "least"), [("ner-bert", 40.0), ("translation-gpt2", 8.0)])
def test_a_cell_comes_far_above_what_needs_no_model(script, tmp_path, name, least):
    """Seed 1 of the cheapest cells; measured: F1 54 against 33, BLEU 20 against 1."""
    torch.set_num_threads(1)
    config = MATRIX.run_config(name, "stock", 1)
    execute(config, RunFolder(tmp_path / "run"), tmp_path / "cache", Reporter(enabled=False))
    cell = Cell(name, "stock", 1, config.to_dict(), "", tmp_path / "run", tmp_path / "cache")
    (_, _, without, score, loss, _), learned = script.row(name, [cell])
    assert learned
    assert float(score) > least > float(without.split()[0])
    begun, ended = map(float, loss.split(" -> "))
    assert ended < begun / 4


def test_a_cell_that_learned_nothing_is_told(script, tmp_path):
    config = MATRIX.run_config("ner-bert", "stock", 1).model_copy(update={"max_steps": 1})
    execute(config, RunFolder(tmp_path / "run"), tmp_path / "cache", Reporter(enabled=False))
    cell = Cell("ner-bert", "stock", 1, config.to_dict(), "", tmp_path / "run", tmp_path / "cache")
    assert script.row("ner-bert", [cell])[1] is False
