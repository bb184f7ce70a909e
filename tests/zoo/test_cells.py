"""Every family on every task reads, learns, writes and scores as transformers does, or is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import transformers

from tests.zoo import cells, expected
from tests.zoo.families import CELLS, FAMILIES, NEEDS_SENTENCEPIECE, TASKS


@pytest.fixture(autouse=True)
def _quiet():
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("family", "task"), CELLS)
def test_a_checkpoint_is_what_transformers_makes_of_it_or_refused(family, task, tmp_path):
    if family in NEEDS_SENTENCEPIECE:
        pytest.importorskip("sentencepiece", reason="the tokenizer of this family needs sentencepiece")
    outcome = cells.measure(family, task, tmp_path)
    refusal = expected.REFUSED.get((family, task))
    if refusal is None:
        assert outcome.word == "equal", outcome.why
    else:
        assert outcome.word == "refused", outcome.why
        assert refusal in outcome.why


def test_a_cell_that_is_no_cell_is_expected_nowhere():
    assert set(expected.REFUSED) <= set(CELLS)


def test_every_task_of_texts_has_a_family_of_each_kind():
    for task in TASKS:
        kinds = {family.reads for family in FAMILIES.values() if task in family.tasks}
        assert kinds >= ({"decoder", "encoder_decoder"} if task in cells.WRITING else {"encoder", "decoder"})


def test_the_page_has_a_row_for_every_family():
    page = (Path(__file__).parents[2] / "docs" / "zoo.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE) == list(FAMILIES), (
        "write it again: scripts/zoo"
    )
    assert "0 WRONG" in page
