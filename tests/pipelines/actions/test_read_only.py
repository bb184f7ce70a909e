"""A reader of a run store without the right to write; root gives up its capabilities first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.cli.main import main
from scripts.forks import Ended, run
from tests.pipelines import stored_ablation as made
from tests.read_only import give_up_root, read_only


@pytest.fixture
def store(tmp_path) -> Path:
    """A store of two ablations that were reported."""
    for name in ("one", "two"):
        assert main(["report", str(made.write(tmp_path / "store", name))]) == 0
    return tmp_path / "store"


def as_reader(store: Path, *command: object) -> Ended:
    with read_only(store):
        return run([str(word) for word in command], give_up_root)


def looks(folder: Path) -> list[dict]:
    return json.loads((folder / "results.json").read_text())["ledger"]["looks"]


def test_a_reader_reports_into_a_folder_of_their_own(store, tmp_path):
    ledger, own = (store / "ledger.jsonl").read_bytes(), tmp_path / "own"
    ended = as_reader(store, "report", store / "one", "--out", own)
    assert (ended.status, ended.said) == (0, f"report: {own}/report.html\n")
    assert [look["p"] for look in looks(own)] == [look["p"] for look in looks(store / "two")]
    assert (store / "ledger.jsonl").read_bytes() == ledger  # the same look as its owner's


def test_a_look_that_cannot_be_recorded_is_told_and_counts(store, tmp_path):
    (store / "ledger.jsonl").unlink()
    own = tmp_path / "own"
    ended = as_reader(store, "report", store / "one", store / "two", "--out", own)
    assert ended.status == 0
    for one in (store / "one", store / "two"):
        assert (
            f"{store}/ledger.jsonl: may not be written, so it does not record 1 look at {one}" in ended.said
        )
    assert [look["recorded"] for look in looks(own)] == [False, False]
    assert (
        "2 primary looks in 2 ablations; 2 of them not recorded in the ledger."
        in (own / "report.md").read_text()
    )
    assert not (store / "ledger.jsonl").exists()
    lost = "ledger.jsonl: does not hold the last look before two was registered\n"  # deleted above
    assert as_reader(store, "verify", own).printed == lost
    assert main(["report", str(store / "one")]) == 0
    assert "recorded" not in looks(store / "one")[0]


def test_a_folder_that_may_not_be_written_is_one_sentence_before_the_work(store):
    fix = "attnlab report FOLDER... --out DIR writes into a folder of your own"
    for where, *out in ([store / "one"], [store / "three", "--out", store / "three"]):
        ended = as_reader(store, "report", store / "one", *out)
        assert (ended.status, ended.said) == (2, f"{where}: may not be written; {fix}.\n")
    ended = as_reader(store, "push", store / "one", "org/name", "--dry-run")
    assert ended.status == 2
    assert ended.said.startswith(f"{store}/one: may not be written; a push is staged in its folder hub")


@pytest.mark.parametrize("command", [["verify"], ["status"], ["status", "--unused"], ["ls", "runs"]])
def test_what_only_reads_needs_no_right_to_write(store, command):
    name, *others = command
    where = [*others, store] if name == "ls" else [store / "one", *others]
    ended = as_reader(store, name, *where)
    assert (ended.status, ended.said) == (0, "")
