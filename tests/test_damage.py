"""No damage of a file ends in a traceback, or in another result without a word: a sample of the cases."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
LEAST_CASES = 1500


def test_a_sample_of_damages_is_refused_told_or_changes_nothing(tmp_path):
    command = [sys.executable, "scripts/damage", "--out", str(tmp_path), "--sample", "25"]
    done = subprocess.run(
        [*command, "--folders", "run,stopped,cache"],
        cwd=REPOSITORY,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sums = done.stdout.splitlines()[-1]
    assert sums.startswith("| all | ")
    assert sum(map(int, sums.split("|")[2:-1])) == 25


def table() -> dict[str, list[int]]:
    """The table of docs/guarantees.md: command -> how often it took a damage in which way."""
    from scripts.damages.table import BEGIN, END, PAGE

    text = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    return {row[0].strip("`"): [int(cell.replace(",", "")) for cell in row[1:]] for row in rows}


def test_the_table_of_the_guarantees_has_every_command_and_nothing_bad():
    source = (REPOSITORY / "scripts" / "damages" / "readers.py").read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    readers = {call.args[0].value for call in calls if getattr(call.func, "id", "") == "Reader"}
    assert table().keys() == {*readers, "all"}
    assert sum(table()["all"]) >= LEAST_CASES
    assert table()["all"][3:] == [0, 0, 0]  # traceback, silent, a file left over
