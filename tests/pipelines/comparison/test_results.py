"""results.json is read as it was written, and a damaged field is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.comparison.results import Results, from_json, to_json
from pipelines.errors import UserError

FOUNDING = Path(__file__).parents[3] / "docs" / "results" / "founding" / "results.json"


@pytest.fixture
def stored() -> dict:
    return json.loads(FOUNDING.read_text(encoding="utf-8"))


def test_what_is_read_is_written_as_it_was(stored):
    assert to_json(from_json(Results, stored, "results.json")) == stored


def test_numbers_that_do_not_exist_are_null_in_the_file(stored):
    row = stored["comparisons"][0]
    row |= {"ci95": [None, None], "variance": dict.fromkeys(row["variance"])}
    results = from_json(Results, stored, "results.json")
    assert all(end != end for end in results.comparisons[0].ci95)  # NaN
    assert to_json(results)["comparisons"][0] == row


def test_a_field_of_a_newer_version_is_ignored(stored):
    stored["comparisons"][0]["invented_later"] = 1
    from_json(Results, stored, "results.json")


def test_a_missing_field_and_a_wrong_type_are_named(stored):
    del stored["comparisons"][3]["verdict"]
    with pytest.raises(
        UserError, match=r"^results\.json: the field comparisons\.3\.verdict is missing; write"
    ):
        from_json(Results, stored, "results.json")
    stored["comparisons"][3]["verdict"] = 7
    with pytest.raises(UserError, match=r"comparisons\.3\.verdict is not valid \(got 7\)"):
        from_json(Results, stored, "results.json")
