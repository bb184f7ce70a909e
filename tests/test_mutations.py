"""The changes that break a guarantee still fit the code; `scripts/mutations` sees that its test turns red."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
CHANGES = yaml.safe_load((REPOSITORY / "tests" / "mutations.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change['guarantee']}: {change['what']}")
def test_the_line_is_there_once_and_so_is_its_test(change):
    assert (REPOSITORY / change["file"]).read_text(encoding="utf-8").count(change["from"]) == 1
    file, _, name = change["test"].partition("::")
    if name:
        assert f"\ndef {name.partition('[')[0]}(" in (REPOSITORY / file).read_text(encoding="utf-8")


def test_every_guarantee_of_the_page_but_that_on_slurm_has_one():
    page = (REPOSITORY / "docs" / "guarantees.md").read_text(encoding="utf-8")
    stated = re.findall(r"^\| ([A-Z]{0,2}\d+) \|", page, flags=re.MULTILINE)
    assert len(set(stated)) == len(stated)
    assert {str(change["guarantee"]) for change in CHANGES} == {*stated} - {"16"}
