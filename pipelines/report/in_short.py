"""The answer of an ablation as one sentence, in words of every day."""

from __future__ import annotations

from pipelines.report import format as fmt
from pipelines.report.data import ReportData, Row


def in_short(facts: ReportData) -> str | None:
    """Return what the verdict says of each arm; None unless every arm has exactly one primary comparison."""
    arms = [row.arm for row in facts.primary]
    if not arms or len(set(arms)) != len(arms):
        return None
    return f"In short: {'; '.join(map(_clause, facts.primary))}."


def _clause(row: Row) -> str:
    stock = row.baseline
    means = f"{row.metric} {_mean(row.arm_scores)} against {_mean(row.baseline_scores)}"
    match row.word:
        case "better" | "worse":
            small = ", though by less than what matters" if row.within_margin else ""
            return f"{row.arm} is {row.word} than {stock} ({means}){small}"
        case "equivalent":
            return f"{row.arm} makes no difference that matters (less than {_margin(row)} either way)"
        case "non-inferior":
            return f"{row.arm} loses less than {_margin(row)} against {stock}, and may be better"
        case "identical":
            return f"{row.arm} answers exactly as {stock} does"
        case _:
            return f"these runs do not tell whether {row.arm} differs from {stock}"


def _mean(scores: tuple[float | None, ...]) -> str:
    mean = fmt.mean(scores)
    return fmt.MISSING if mean is None else f"{mean:.3g}"


def _margin(row: Row) -> str:
    """Return the margin with its unit; on a log scale it is in hundredths, about per cent."""
    if not fmt.known(row.margin):
        return "the margin"
    return f"{row.margin:g} % of {row.metric}" if row.scale == "log" else f"{row.margin:g} {row.metric}"
