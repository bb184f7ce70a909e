"""The answer of `ablate`, `report` and `compare`: the primary comparisons, and what was expected of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.actions.answers import Judged, JudgedArm, LedgerReading
from pipelines.comparison.expectation import Expected, outcome, together
from pipelines.report import data, headline, recipe, sentences, settling
from pipelines.report import format as fmt
from pipelines.report.data import ReportData, Row
from pipelines.storage.names import REPORT, RESULTS


def judged(results: Mapping[str, Any], folder: Path, expect: Expected | None) -> Judged:
    """Return the answer of results that were written into `folder`."""
    facts = data.load(results, folder)
    arms = [_arm(facts, row, expect) for row in facts.primary]
    told = [arm.outcome for arm in arms if arm.outcome is not None]
    return Judged(
        folder=str(folder),
        kind=recipe.kind(facts),
        results=str(folder / RESULTS),
        report=str(folder / REPORT),
        headline=headline.sentence(facts),
        expect=expect,
        outcome=together(told) if expect else None,
        comparisons=arms,
        failures=[sentences.failure(entry) for entry in facts.results.failures],
        alerts=sentences.alerts(facts),
    )


def _arm(facts: ReportData, row: Row, expect: Expected | None) -> JudgedArm:
    told = (
        outcome(expect, row.word, within_margin=row.within_margin, changed=row.is_changed) if expect else None
    )
    return JudgedArm(
        cell=row.cell,
        arm=row.arm,
        baseline=row.baseline,
        metric=row.metric,
        unit=row.unit,
        seeds=list(row.seeds),
        examples=row.n_examples,
        baseline_mean=fmt.mean(row.baseline_scores),
        arm_mean=fmt.mean(row.arm_scores),
        difference=row.difference,
        ci95=None if row.ci95 is None else list(row.ci95),
        p=row.p,
        p_holm=row.p_holm,
        margin=row.margin,
        verdict=row.verdict,
        word=row.word,
        within_margin=row.within_margin,
        changed=row.is_changed,
        reason=row.reason,
        note=settling.note(facts, row),
        flags=list(row.flags),
        outcome=told,
        ledger=_ledger(facts, row),
    )


def _ledger(facts: ReportData, row: Row) -> LedgerReading | None:
    """Return the reading of the last look at a comparison."""
    known = facts.results.ledger
    looks = known.looks if known is not None else ()
    own = [one for one in looks if (one.cell, one.arm, one.metric) == (row.cell, row.arm, row.metric)]
    if not own or own[-1].p is None:
        return None
    last = own[-1]
    return LedgerReading(
        looks=sum(one.test == last.test for one in looks),
        e=last.e,
        needed=last.needed,
        claimed=bool(last.claimed),
    )
