"""A checkpoint that is unusual in one way is what transformers makes of it, or is refused for it."""

from __future__ import annotations

import pytest
import torch
import transformers

from tests.zoo import cells
from tests.zoo.families import FAMILIES
from tests.zoo.quirks import QUIRKS


@pytest.fixture(autouse=True)
def _quiet():
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", QUIRKS)
def test_an_unusual_checkpoint_is_equal_or_refused(name, tmp_path):
    quirk = QUIRKS[name]
    checkpoint = quirk.save(tmp_path / "checkpoint")
    outcome = cells.compare(FAMILIES[quirk.family], quirk.task, checkpoint, tmp_path, quirk.options)
    if quirk.refused:
        assert outcome.word == "refused", outcome.why
        assert quirk.refused in outcome.why
    else:
        assert outcome.word == "equal", outcome.why
