"""docs/architectures.md, written from the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scripts import md_tables
from scripts.seam_checks.checks import CHECKS

INTRO = """# Model types that variants can be attached to

Written by `scripts/architectures`: every model type that transformers {transformers} knows, built small from
its config (width 32, two layers, random weights, torch {torch}, CPU, float32), with variants attached.

| cell | pass means |
|---|---|
| swap exact | with `[temperature, gate]` at neutral parameters all outputs equal stock's, difference 0.0 |
| causality | with the parameters moved away from neutral, later positions do not change earlier ones |
| padding | a padded example gives the same output as alone |
| cache | decoding from a cache gives the same output as the whole sequence |
| own place | a hidden state that is moved moves the own value of its query and no other, from a cache too |
| cross-attention | variants at cross-attention alone are reached, exact at the start, and change the output |
| gradient | every parameter of every site gets a finite gradient that is not zero |
| explicit path | a variant that sees the scores (`sink`, neutral) equals stock within 50 eps |

*n/a* means that the check does not apply to this model; the number is the reason, below the table. If the
stock model shows the same difference, the cell is n/a, with this reason.

This is the attention alone. What a run makes of checkpoints, with their
tokenizers and heads, is in [zoo.md](zoo.md).
"""


def markdown(rows: Mapping[str, dict], versions: Mapping[str, str]) -> str:
    reasons: dict[str, int] = {}
    lines = [INTRO.format(**versions), summary(rows), "", "## Reached and measured", ""]
    lines += md_tables.head(["type", "class", "sites", *CHECKS])
    for name, row in rows.items():
        if "cells" in row:
            cells = [_cell(row["cells"][check], reasons) for check in CHECKS]
            lines.append(md_tables.row([f"`{name}`", row["class"], str(row["sites"]), *cells]))
    lines += ["", "Reasons:", "", *(f"{number}. {text}" for text, number in reasons.items()), ""]
    lines += ["## Refused: attention that does not go through the interface", ""]
    lines += [
        "`attach` names the class and says so.",
        "",
        ", ".join(_named(rows, _does_not_dispatch)) + ".",
        "",
    ]
    lines += ["## Asked for an example", ""]
    lines += [
        "`attach(model, ..., example=batch)` takes a real batch; none could be made up, because of:",
        "",
    ]
    lines += [
        f"- `{n}` ({r['class']}): {_because(r['refused'])}" for n, r in rows.items() if _needs_example(r)
    ]
    lines += ["", "## Not built here", "", "The shrunken config or a missing library stood in the way:", ""]
    lines += [f"- `{n}`: {_short(r.get('unbuilt') or r['failed'])}" for n, r in rows.items() if _unbuilt(r)]
    return "\n".join(lines) + "\n"


def summary(rows: Mapping[str, dict]) -> str:
    """The counts in one paragraph."""
    reached = [row["cells"] for row in rows.values() if "cells" in row]
    passed = {check: sum(cells[check] == "pass" for cells in reached) for check in CHECKS}
    three = sum(all(cells[c] == "pass" for c in ("swap exact", "padding", "gradient")) for cells in reached)
    failed = sum(cell.startswith("fail") for cells in reached for cell in cells.values())
    each = ", ".join(f"{name} {count}" for name, count in passed.items())
    refused, asked, unbuilt = (
        len(_named(rows, kind)) for kind in (_does_not_dispatch, _needs_example, _unbuilt)
    )
    return (
        f"**Of {len(rows)} model types {len(reached)} are reached.** Passes: {each}; {three} types pass "
        f"swap, padding and gradient together. Failed cells: {failed}. {refused} types do not dispatch and "
        f"are refused by name, {asked} need an example, {unbuilt} were not built."
    )


def _does_not_dispatch(row: dict) -> bool:
    return "does not go through" in row.get("refused", "")


def _needs_example(row: dict) -> bool:
    return "refused" in row and not _does_not_dispatch(row)


def _unbuilt(row: dict) -> bool:
    return "unbuilt" in row or "failed" in row


def _named(rows: Mapping[str, dict], kind: Callable[[dict], bool]) -> list[str]:
    return [f"`{name}`" for name, row in rows.items() if kind(row)]


def _cell(cell: str, reasons: dict[str, int]) -> str:
    word, _, reason = cell.partition(": ")
    return f"{word} ({reasons.setdefault(_short(reason), len(reasons) + 1)})" if reason else word


def _because(refusal: str) -> str:
    inside = refusal.partition("forward stopped with ")[2] or refusal.partition(": ")[2]
    return _short(inside.partition("); pass example=")[0])


def _short(text: str) -> str:
    text = " ".join(text.split()).replace("|", "/").replace("<", "&lt;")
    return text if len(text) <= 160 else text[:157] + "..."
