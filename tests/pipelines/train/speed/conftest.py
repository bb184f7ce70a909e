"""Batches of tests are tiny: any padding in them is worth skipping."""

import pytest

from pipelines.train.speed import unpadding


@pytest.fixture(autouse=True)
def any_padding(monkeypatch):
    monkeypatch.setattr(unpadding, "FEWEST_PADDING", 1)
