"""Every look at a comparison is noted beside the runs, once, in an order that nobody can change."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.ablation import ledger
from pipelines.ablation.ledger import NotedLook
from pipelines.cli.main import main
from pipelines.comparison.online import e_lond
from pipelines.errors import UserError
from tests.pipelines import stored_ablation as made


def look(p: float | None = 0.5, **changes) -> NotedLook:
    one: NotedLook = {
        "time": "2026-11-28T12:00:00+00:00",
        "test": "aa",
        "ablation": "seal",
        "cell": "toy",
        "arm": "gate",
        "metric": "f1",
        "p": p,
        "finished": 6,
        "planned": 6,
    }
    return {**one, **changes}


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def told(folder: Path) -> str:
    return " ".join((folder / "report.md").read_text().split())


def verified(folder: Path, capsys) -> tuple[int, str]:
    capsys.readouterr()
    status = main(["verify", str(folder)])
    return status, capsys.readouterr().out


# ---- the file
def test_a_look_is_noted_once_and_another_p_is_another_look(tmp_path):
    assert len(ledger.note(tmp_path, [look(0.5), look(0.2, arm="cap")])) == 2
    before = (tmp_path / "ledger.jsonl").read_bytes()
    assert len(ledger.note(tmp_path, [look(0.5)])) == 2
    assert (tmp_path / "ledger.jsonl").read_bytes() == before
    lines = ledger.note(tmp_path, [look(0.04)])
    assert [line["p"] for line in lines] == [0.5, 0.2, 0.04]
    assert (tmp_path / "ledger.jsonl").read_bytes().startswith(before)
    assert [line["previous"] for line in lines] == ["", lines[0]["hash"], lines[1]["hash"]]


@pytest.mark.parametrize(
    "forge",
    [
        lambda lines: [lines[0].replace("0.5", "0.9"), *lines[1:]],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[1], lines[0], lines[2]],
        lambda lines: lines[1:],
    ],
    ids=["a p changed", "a line removed", "two exchanged", "the first removed"],
)
def test_a_ledger_that_was_edited_is_refused(tmp_path, forge):
    ledger.note(tmp_path, [look(0.5), look(0.4, arm="cap"), look(0.3, arm="sink")])
    path = tmp_path / "ledger.jsonl"
    path.write_text("".join(f"{line}\n" for line in forge(path.read_text().splitlines())))
    with pytest.raises(UserError, match="does not follow from the line before"):
        ledger.read(tmp_path)


def test_two_at_once_lose_no_look(tmp_path):
    code = (
        "import sys; from pathlib import Path; from pipelines.ablation import ledger\n"
        "from tests.pipelines.ablation.test_ledger import look\n"
        "[ledger.note(Path(sys.argv[1]), [look(0.5, arm=f'{sys.argv[2]} {n}')]) for n in range(5)]\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen([*command, name], cwd=Path(__file__).parents[3]) for name in ("a", "b")]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert len({line["arm"] for line in ledger.read(tmp_path)}) == 10


# ---- what a report says of it
def test_a_report_counts_the_looks_of_all_ablations_at_its_test_set(tmp_path, capsys):
    one = made.write(tmp_path, "one")
    two = made.write(tmp_path, "two", arms=["stock", "temperature", "gate"])
    for folder in (one, two, one):
        assert main(["report", str(folder)]) == 0
    assert "The test set has had 3 primary looks in 2 ablations." in told(one)
    assert "The test set has had 3 primary looks in 2 ablations." in told(two)
    assert "The test set has had 3 primary looks" in " ".join(capsys.readouterr().out.split())
    looks = results(one)["ledger"]["looks"]
    assert [found["arm"] for found in looks] == ["gate", None, None]  # the names of others are theirs
    by_hand = e_lond([found["p"] for found in looks])
    assert [found["claimed"] for found in looks] == [found.claimed for found in by_hand]
    assert [found["needed"] for found in looks] == [found.needed for found in by_hand]
    assert verified(one, capsys)[0] == verified(two, capsys)[0] == 0


def test_a_second_look_at_one_comparison_claims_less_than_its_p(tmp_path):
    folder = made.write(tmp_path)
    for path in (tmp_path / "cells").glob("*/manifest.json"):
        assert json.loads(path.read_text())["data"]["hashes"]["test"] == "abc"
    ledger.note(tmp_path, [look(0.5, test="abc", arm=f"arm {number}") for number in range(40)])
    assert main(["report", str(folder)]) == 0
    assert "has had 41 primary looks in 2 ablations" in told(folder)
    said = told(folder)
    assert "That changes no verdict, which is of this ablation by itself. A stricter rule (e-LOND)" in said
    assert "differences that it claims be false: it claims none for gate yet, which would take" in said
    assert results(folder)["ledger"]["looks"][-1]["needed"] == pytest.approx(20 * 41 * 42)


def test_a_report_of_an_unfinished_design_is_noted_as_that(tmp_path, capsys):
    folder = made.write(tmp_path, finished=[1, 2])
    assert main(["report", str(folder)]) == 0
    assert "1 primary look in 1 ablation, 1 of them before all planned runs had ended" in told(folder)
    made.write(tmp_path)
    assert main(["report", str(folder)]) == 0
    assert "2 primary looks in 1 ablation, 1 of them before all planned runs had ended" in told(folder)
    assert verified(folder, capsys)[0] == 0


# ---- attacks
@pytest.fixture
def reported(tmp_path) -> Path:
    for name in ("one", "two"):
        folder = made.write(tmp_path, name)
        assert main(["report", str(folder)]) == 0
    return folder


def test_a_look_that_was_taken_out_of_the_results_is_found(reported, capsys):
    content = results(reported)
    del content["ledger"]["looks"][0]
    (reported / "results.json").write_text(json.dumps(content))
    status, out = verified(reported, capsys)
    assert (status, "results.json: ledger: " in out) == (1, True)


def test_a_claim_that_the_looks_do_not_give_is_found(reported, capsys):
    content = results(reported)
    content["ledger"]["looks"][-1]["claimed"] = True
    (reported / "results.json").write_text(json.dumps(content))
    status, out = verified(reported, capsys)
    assert (status, "the reading is not what its looks give" in out) == (1, True)


def test_a_ledger_that_was_deleted_or_begun_anew_is_found(reported, capsys):
    path = reported.parent / "ledger.jsonl"
    path.unlink()
    assert "ledger.jsonl: does not hold the look after which" in verified(reported, capsys)[1]
    ledger.note(path.parent, [look(0.5, test="abc")])
    status, out = verified(reported, capsys)
    assert (status, "ledger.jsonl: does not hold the look after which" in out) == (1, True)


def test_a_damaged_ledger_is_one_sentence(reported, capsys):
    path = reported.parent / "ledger.jsonl"
    path.write_text(path.read_text().replace('"p": ', '"p": 0'))
    assert main(["report", str(reported)]) == 2
    assert capsys.readouterr().err.startswith(f"{path}, line 1: ")
    assert verified(reported, capsys)[0] == 1


def test_a_copy_that_was_pushed_carries_its_looks(reported, tmp_path, capsys):
    from pipelines.ablation.folder import open_ablation
    from pipelines.publish.ablation_repository import records

    pushed = tmp_path / "pushed"
    pushed.mkdir()
    records(open_ablation(reported), pushed)
    (pushed / "attnlab.json").write_text("{}")
    copy = pushed / "ablation"
    assert results(copy)["ledger"] == results(reported)["ledger"]
    assert "has had 2 primary looks in 2 ablations" in told(copy)
    status, out = verified(copy, capsys)
    assert status == 0, out
    shutil.rmtree(pushed)
