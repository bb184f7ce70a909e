"""A checkpoint that is unusual in one way is what transformers makes of it, or is refused for it."""

from __future__ import annotations

import pytest
import torch
import transformers

from tests.zoo import cells, expected
from tests.zoo.families import FAMILIES
from tests.zoo.quirks import QUIRKS


def _quirk(name: str):
    known = expected.WRONG_QUIRKS.get(name)
    marks = [pytest.mark.xfail(strict=True, reason=known)] if known else []
    return pytest.param(name, marks=marks)


@pytest.fixture(autouse=True)
def _quiet():
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [_quirk(name) for name in QUIRKS])
def test_an_unusual_checkpoint_is_equal_or_refused(name, tmp_path):
    quirk = QUIRKS[name]
    checkpoint = quirk.save(tmp_path / "checkpoint")
    outcome = cells.compare(FAMILIES[quirk.family], quirk.task, checkpoint, tmp_path, quirk.options)
    if quirk.refused:
        assert outcome.word == "refused", outcome.why
        assert quirk.refused in outcome.why
    else:
        assert outcome.word == "equal", outcome.why


def test_a_known_fault_is_a_quirk():
    assert set(expected.WRONG_QUIRKS) <= set(QUIRKS)
