"""A metric is found by its file, which is looked for once in a process."""

from __future__ import annotations

import pytest

from pipelines.errors import UserError
from pipelines.metrics import load
from pipelines.registry import catalog


def test_the_source_of_a_metric_is_read_once(monkeypatch):
    first = load.load("pearson")
    monkeypatch.setattr(catalog, "names", lambda kind: pytest.fail("it is read again"))
    again = load.load("pearson")
    assert (type(again), again is first) == (type(first), False)


def test_a_metric_that_is_not_there_may_come_later(monkeypatch):
    for _ in range(2):
        with pytest.raises(UserError, match="'brier': there is no such metric"):
            load.load("brier")
    monkeypatch.setattr(catalog, "names", lambda kind: ["brier"])
    monkeypatch.setattr(load, "load_class", lambda module, base: dict)
    assert load.load("brier", {"a": 1}) == {"a": 1}
    load._class_of.cache_clear()
