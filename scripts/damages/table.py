"""The table of the cases, and its place in docs/guarantees.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from scripts.damages.cases import BAD, GOOD

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guarantees.md"
BEGIN, END = "<!-- scripts/damage: begin -->\n", "<!-- scripts/damage: end -->\n"
HEADINGS = {
    "refused": "refused in a sentence",
    "told": "told",
    "same": "not read, or made again",
    "traceback": "traceback",
    "silent": "silent",
    "left over": "file left over",
}


def table(entries: Iterable[Mapping[str, str]]) -> str:
    """Return one line per command, and the sums."""
    counts: dict[str, Counter[str]] = {}
    for entry in entries:
        counts.setdefault(f"`{entry['command']}`", Counter())[entry["took"]] += 1
    counts["all"] = sum(counts.values(), Counter())
    lines = [f"| command | {' | '.join(HEADINGS.values())} |", "|---" * (len(HEADINGS) + 1) + "|"]
    for name, found in counts.items():
        lines.append(f"| {name} | {' | '.join(f'{found[took]:,}' for took in (*GOOD, *BAD))} |")
    return "\n".join(lines) + "\n"


def put_into_page(text: str) -> None:
    """Replace the table of docs/guarantees.md."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{text}{END}{rest.partition(END)[2]}", encoding="utf-8")
