"""Plain text: a row for each line, or for each paragraph where blank lines divide the text."""

from __future__ import annotations

UNITS = ("lines", "paragraphs")
Rows = list[dict[str, str]]


def lines_of(text: str) -> list[str]:
    """Return the lines of a text without their ends; only line feeds end one, not U+2028 and the like.

    In a text without any, carriage returns do (files of old Macs and of some spreadsheets).
    """
    lines = text.split("\n" if "\n" in text else "\r")
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


def parse(text: str, unit: str | None) -> tuple[str, Rows, list[int]]:
    """Return the unit, a row (column "text") for each, and the line at which each begins.

    Args:
        unit: one of `UNITS`; None: paragraphs if a blank line stands between two others, else lines.
    """
    blocks: Rows = []
    begins: list[int] = []
    inside = False
    paragraphs = lines_of(text)
    for number, line in enumerate(paragraphs, start=1):
        if not line.strip():
            inside = False
        elif inside:
            blocks[-1]["text"] += f"\n{line}"
        else:
            blocks.append({"text": line})
            begins.append(number)
            inside = True
    if unit == "paragraphs" or (unit is None and len(blocks) > 1):
        return "paragraphs", blocks, begins
    numbered = [(number, line) for number, line in enumerate(paragraphs, start=1) if line.strip()]
    return "lines", [{"text": line} for _, line in numbered], [number for number, _ in numbered]
