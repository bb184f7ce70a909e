"""The changes that break a guarantee still fit the code; `scripts/mutations` sees that its test turns red."""

from __future__ import annotations

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


def test_every_guarantee_of_a_run_but_that_on_slurm_and_all_of_a_swap_have_one():
    swap = {f"S{number}" for number in range(1, 13)}
    lettered = {"C1", "C2", "D1", "D2", "F1", "F2", "F3", "I1", "I2", "I3", "Q1", "Q2"}
    lettered |= {"R1", "R2", "R3", "R4", "V1", "V2", "E1", "E2", "E3", "E4", "E5", "E6", "E7"}
    numbers = {*range(1, 16), *range(17, 27)}
    assert {change["guarantee"] for change in CHANGES} == {*numbers, *swap, *lettered}
