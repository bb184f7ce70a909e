"""What `inspect` and `status` print of data and names cannot move the cursor, and fits its column."""

from __future__ import annotations

from rich.cells import cell_len

from pipelines.actions import inspect, status


def test_inspect_shows_escapes_as_text(capsys):
    inspect._print("examples", iter(["words: \x1b[2Jred\rover", "next\nline hf_aB3dE6gH9"]))
    assert capsys.readouterr().out == "examples\n  words: \\x1b[2Jred\\rover\n  next\n  line hf_***\n"


def test_a_reason_is_cut_by_the_cells_of_a_terminal():
    wide = "\x1b[31m" + "数据集" * 40
    shown = status._cut(wide)
    assert shown.startswith(r"\x1b[31m数据集")
    assert cell_len(shown) <= status.MOST_CELLS
    assert shown.endswith("…")
    assert status._cut("short\nsecond line") == "short"
