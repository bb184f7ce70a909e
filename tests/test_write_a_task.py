"""docs/write-a-task.md, followed in a copy of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import guide

PAGE = "write-a-task.md"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy with the files of the guide, and its case of the metric among the others."""
    copy = guide.checkout(PAGE, tmp_path_factory.mktemp("checkout"))
    [case] = [block.text for block in guide.blocks(PAGE) if block.language == "text"]
    test = copy / "tests" / "pipelines" / "metrics" / "test_adapter.py"
    text = test.read_text(encoding="utf-8")
    assert "\nCASES = {" in text
    head, brace, rest = text.partition("\nCASES = {")
    comment, newline, rows = rest.partition("\n")
    test.write_text(head + brace + comment + newline + case + rows, encoding="utf-8")
    return copy


def test_the_lengths_are_those_that_the_page_states():
    lines = {block.file: len(block.text.splitlines()) for block in guide.blocks(PAGE) if block.file}
    parts = ("tasks/text_regression", "metrics/mae", "corpora/text_regression")
    assert [lines[f"pipelines/{part}.py"] for part in parts] == [93, 30, 19]


@pytest.mark.parametrize(
    ("command", "printed"),
    list(zip(guide.commands(PAGE), ("A number for a text", "mean of train: mae", "", ""), strict=True)),
)
def test_every_command_of_the_guide_works(checkout, command, printed):
    assert printed in guide.run(checkout, command)


def test_the_metric_passes_the_tests_of_metrics(checkout):
    guide.run(checkout, "python -m pytest -n 0 -q tests/pipelines/metrics/test_adapter.py -k mae")
