"""What is given twice, in two units, or of other examples is refused, or told."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest

from pipelines.actions.compare import Request, compare_command
from pipelines.cli.main import main
from pipelines.errors import UserError
from pipelines.metrics.mean_score import MeanScore
from pipelines.storage.run_folder import RunFolder
from tests.pipelines.predictions import files

WORDS = ["up", "down"]


def scores(path, seed: int, unit: float = 1.0, **columns):
    rows = [
        {"id": f"r{n}", "acc": unit * ((n * seed + n // 3) % 5) / 4, **{k: v(n) for k, v in columns.items()}}
        for n in range(30)
    ]
    return str(files.json_lines(path, rows))


def compared(tmp_path, *sides, **options):
    return compare_command(Request(sides=sides, **{"scores": ["acc"], **options}), str(tmp_path / "out"))


def three(tmp_path, side: str, unit: float = 1.0, **columns) -> str:
    for seed in (1, 2, 3):
        scores(tmp_path / f"{side}-{seed}.jsonl", seed + len(side), unit, **columns)
    return str(tmp_path / f"{side}-*.jsonl")


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_link_is_no_side_of_its_own(tmp_path, link):
    scores(tmp_path / "one.jsonl", 1)
    getattr(tmp_path / "two.jsonl", link)(tmp_path / "one.jsonl")
    with pytest.raises(UserError, match=r"one.jsonl and .*two.jsonl: are one file"):
        compared(tmp_path, str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl"))


def test_a_copy_is_no_seed_of_its_own(tmp_path):
    base, new = three(tmp_path, "base"), three(tmp_path, "news")
    compared(tmp_path, base, new)
    shutil.copy(tmp_path / "news-1.jsonl", tmp_path / "news-3.jsonl")
    with pytest.raises(UserError, match=r"news-3.jsonl: holds what .*news-1.jsonl holds: a copy is no seed"):
        compared(tmp_path, base, new)


def test_a_copy_with_other_bytes_is_told(tmp_path):
    base, new = three(tmp_path, "base"), three(tmp_path, "news")
    rows = [json.loads(line) for line in (tmp_path / "news-1.jsonl").read_text().splitlines()]
    files.json_lines(tmp_path / "news-3.jsonl", rows[::-1])
    [row] = compared(tmp_path, base, new).comparisons
    assert "files 1 and 3 of news predict the same for every example: one may be a copy" in row.flags


@pytest.mark.parametrize("which", ["a side", "a seed"])
def test_fractions_and_per_cent_are_two_units(tmp_path, which):
    base, new = three(tmp_path, "base"), three(tmp_path, "news", 100 if which == "a side" else 1)
    scores(tmp_path / "news-2.jsonl", 6, 100)
    with pytest.raises(UserError, match=r"--score acc: is given in two units .*up to 1 in .*, up to 100 in "):
        compared(tmp_path, base, new)


def test_a_loss_may_be_large_on_one_side(tmp_path):
    base, new = three(tmp_path, "base"), three(tmp_path, "news", 15)
    assert compared(tmp_path, base, new, lower_is_better=True).comparisons


def test_rows_that_tell_of_another_example_are_not_paired(tmp_path):
    def label(shift: int):
        return {"gold": lambda n: WORDS[(n + shift) % 2], "note": lambda n: f"{shift}"}

    base = three(tmp_path, "base", **label(0))
    compared(tmp_path, base, three(tmp_path, "news", **label(0)))
    with pytest.raises(UserError, match=r"is another example than in .*base-1.jsonl: its question or target"):
        compared(tmp_path, base, three(tmp_path, "news", **label(1)))


def test_other_orders_are_not_paired_where_the_rows_tell_it_beside_references(tmp_path):
    """Without ids the order counts, and the files tell of which example each row is."""
    for side, order in (("base", 1), ("news", -1)):
        rows = [{"prediction": WORDS[n % 2], "question": f"q{n}"} for n in range(30)][::order]
        files.json_lines(tmp_path / f"{side}.jsonl", rows)
    files.json_lines(tmp_path / "gold.jsonl", [{"text": f"q{n}", "label": WORDS[n % 2]} for n in range(30)])
    sides = [str(tmp_path / f"{side}.jsonl") for side in ("base", "news")]
    options = {"scores": [], "task": "text_classification", "references": str(tmp_path / "gold.jsonl")}
    with pytest.raises(UserError, match=r"news.jsonl, example 1: is another example than in .*base.jsonl"):
        compared(tmp_path, *sides, **options)


def test_records_that_agree_with_each_other_are_held_against_their_files(tmp_path, capsys):
    compared(tmp_path, three(tmp_path, "base"), three(tmp_path, "news"), margin=0.1)
    folder = tmp_path / "out"
    assert main(["verify", str(folder)]) == 0
    metric, side = MeanScore("acc", True), folder / "sides" / "1-2"
    lines = [json.loads(line) for line in (side / "predictions.test.jsonl").read_text().splitlines()]
    values, ids = [1.0] * len(lines), [line["id"] for line in lines]
    evaluation = {"ids": ids, "clusters": ids, "predictions": values, "references": [None] * len(lines)}
    table = metric.table(values, values)
    scored = SimpleNamespace(**evaluation, metrics={"acc": metric}, statistics={"acc": table})
    RunFolder(side).write_evaluation("test", scored)
    manifest = json.loads((side / "manifest.json").read_text())
    RunFolder(side).finish(manifest | {"scores": {"test": {"acc": 1.0}}})
    assert main(["report", str(folder)]) == 0
    capsys.readouterr()
    assert main(["verify", str(folder)]) == 1
    assert "news/2: predictions.test.jsonl: is not what its source gives" in capsys.readouterr().out
