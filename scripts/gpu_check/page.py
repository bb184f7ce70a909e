"""The figures of the check as the section of docs/benchmarks.md that it writes."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.benchmarks.table import short
from scripts.gpu_check.claims import Verdict, judge
from scripts.md_tables import table

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- written by scripts/check-gpu -->", "<!-- end of what scripts/check-gpu writes -->"
UNMEASURED = "–"


def write(record: Mapping[str, Any], page: Path = PAGE) -> None:
    """Put the figures between the two marks of the page."""
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    page.write_text(f"{head}{BEGIN}\n{markdown(record)}\n{END}{tail}", encoding="utf-8")


def markdown(record: Mapping[str, Any]) -> str:
    """Return the section: the card, the claims, then the tables of training and of variants."""
    measured = record["parts"]
    return "\n\n".join(
        (
            _card(measured.get("card", {}), record),
            claims_table(judge(measured, is_tiny=record["is_tiny"])),
            _training(measured),
            _variants(measured.get("variants", {})),
            *_failures(measured),
        )
    )


def claims_table(verdicts: Sequence[Verdict]) -> str:
    rows = [(one.sentence, number(one.figure), one.word) for one in verdicts]
    return table(("claim", "measured", "verdict"), rows)


def _card(card: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    products, copied = card.get("tflops", {}), card.get("copied_gb_per_second")
    device = card.get("device", "one device")
    versions = f"torch {card.get('torch', UNMEASURED)}, CUDA {card.get('cuda') or 'none'}"
    return (
        f"Measured on {device}, {versions}, sources {record['sources']}, in {record['seconds']:.0f} seconds. "
        f"A matrix product reaches {number(products.get('bfloat16'))} TFLOP/s in bfloat16 and "
        f"{number(products.get('float32'))} in float32; a copy {number(copied)} GB/s, read and written."
    )


def _training(measured: Mapping[str, Any]) -> str:
    columns = (
        "model, tokens of an input",
        "useful tokens/s",
        "Trainer",
        "over Trainer",
        "MFU",
        "GiB",
        "Trainer's",
    )
    rows = []
    for name, found in measured.items():
        if name.startswith("training: ") and "failed" not in found:
            ours, theirs = found["tokens_per_second"], found["trainer_tokens_per_second"]
            rates = (number(statistics.median(ours)), number(statistics.median(theirs)))
            share = UNMEASURED if found["mfu"] is None else f"{found['mfu']:.0%}"
            peaks = (number(found["peak_gib"]), number(found["trainer_peak_gib"]))
            what = name.removeprefix("training: ")
            rows.append((what, *rates, f"{found['over_trainer']:.2f}x", share, *peaks))
    return table(columns, rows)


def _variants(found: Mapping[str, Any]) -> str:
    cases = found.get("over_stock", {})
    rows = []
    for name, path in found.get("paths", {}).items():
        costs = [cases[case].get(name) for case in cases]
        cells = [
            UNMEASURED if cost is None else f"{cost['time']:.2f} · {cost['memory']:.2f}" for cost in costs
        ]
        rows.append((name, path, *cells))
    columns = (
        "variant",
        "runs on",
        *(f"{case}: time · memory, stock {found['stock']['seconds']:.2g} s" for case, found in cases.items()),
    )
    return table(columns, rows)


def _failures(measured: Mapping[str, Any]) -> Iterator[str]:
    for name, found in measured.items():
        if "failed" in found:
            yield f"Not measured: {name}: {found['failed'].rstrip('.')}."


def number(value: float | None) -> str:
    return UNMEASURED if value is None else short(value)
