"""How often the test sets of a report were looked at, and what may be claimed after all these looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipelines.comparison.results import ReadLook
from pipelines.report import format as fmt
from pipelines.report.data import ReportData

OWN = "That changes no verdict, which is of this ablation by itself."
OVER_ALL = (
    "A stricter rule (e-LOND) is over all looks that the test set ever has, and lets at most 5 % of the "
    "differences that it claims be false"
)
STRICT = "which would take a far smaller p than a verdict does"


def sentences(facts: ReportData) -> Iterator[str]:
    """Yield for each test set its looks, and their reading by e-LOND; nothing without a ledger."""
    known = facts.results.ledger
    if known is None:
        return
    for test in dict.fromkeys(known.tests.values()):
        cells = [cell for cell, hashed in known.tests.items() if hashed == test]
        looks = [look for look in known.looks if look.test == test]
        where = f" of {fmt.listing(cells)}" if len(known.tests) > 1 else ""
        yield _count(looks, where, "comparison" if facts.is_after_the_fact else "ablation")
        yield _reading(facts, looks)


def _count(looks: Sequence[ReadLook], where: str, kind: str) -> str:
    ablations = len({look.ablation for look in looks})
    early = sum(look.finished < look.planned for look in looks)
    text = f"The test set{where} has had {fmt.plural(len(looks), 'primary look')} "
    text += f"in {fmt.plural(ablations, kind)}"
    aside = f", {early} of them before all planned runs had ended" if early else ""
    unrecorded = sum(not look.recorded for look in looks)
    kept = f"; {unrecorded} of them not recorded in the ledger" if unrecorded else ""
    return f"{text}{aside}{kept}."


def _reading(facts: ReportData, looks: Sequence[ReadLook]) -> str:
    """Return which comparisons of this report are claimed at their last look."""
    last = {(look.arm, look.cell): look for look in looks if look.arm is not None and look.p is not None}
    several = len(facts.cells) > 1
    names = {f"{arm} on {cell}" if several else str(arm): look.claimed for (arm, cell), look in last.items()}
    claimed = [name for name, is_claimed in names.items() if is_claimed]
    open_ones = [name for name in names if name not in claimed]
    parts = [f"it claims one for {fmt.listing(claimed)}"] if claimed else []
    parts += [f"it claims none for {fmt.listing(open_ones)} yet, {STRICT}"] if open_ones else []
    said = "; ".join(parts) or "nothing has been tested"
    return f"{OWN} {OVER_ALL}: {said}."
