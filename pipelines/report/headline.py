"""The finding of an ablation in one sentence of plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipelines.comparison.results import CHANGED
from pipelines.report import format as fmt
from pipelines.report import sentences, settling
from pipelines.report.data import VERDICTS, ReportData, Row

MOST_NAMED = 3  # comparisons of one verdict
CLAIMS = {  # verdict -> what it says of its comparisons, singular and plural
    "better": ("is better than {0}", "are better than {0}"),
    "worse": ("is worse than {0}", "are worse than {0}"),
    "usually better": ("is usually better than {0}", "are usually better than {0}"),
    "usually worse": ("is usually worse than {0}", "are usually worse than {0}"),
    "equivalent": ("differs from {0} by less than the margin", "differ from {0} by less than the margin"),
    "non-inferior": (
        "is not worse than {0} by more than the margin",
        "are not worse than {0} by more than the margin",
    ),
    "identical": ("gives the same outputs as {0}", "give the same outputs as {0}"),
    "insensitive": ("was not compared where harm would show", "were not compared where harm would show"),
    "inconclusive": ("cannot be told from {0} yet", "cannot be told from {0} yet"),
    "unstable": ("has runs that diverged", "have runs that diverged"),
    "no-verdict": ("has no verdict", "have no verdict"),
}


def sentence(facts: ReportData) -> str:
    """Return what the primary comparisons found: few arms one by one, many by verdict, settled first."""
    if not facts.primary:
        return "No primary comparison was finished."
    arms = [row.arm for row in facts.primary]
    if len(set(arms)) == len(arms) <= MOST_NAMED:
        told = [f"{_plain(row)} [{CHANGED}]" if row.is_changed else _plain(row) for row in facts.primary]
        return f"{'; '.join(told)}{_more(facts)}{_about(facts)}."
    by_word = {word: [row for row in facts.primary if row.word == word] for word in VERDICTS}
    clauses = [_clause(facts, word, rows) for word, rows in by_word.items() if rows]
    text = "; ".join(clauses)
    return f"{text}{_more(facts)}{_about(facts)}."


def _about(facts: ReportData) -> str:
    """Return what a comparison of one model a side is about."""
    return f"; {sentences.TWO_MODELS}" if facts.of_two_models else ""


def _clause(facts: ReportData, word: str, rows: Sequence[Row]) -> str:
    several = len(facts.cells) > 1
    names = [f"{row.arm} on {row.cell}" if several else row.arm for row in rows]
    numbers = [
        f" ({fmt.signed(row.difference, row.places)} {row.unit} {row.metric})"
        if row.settled and fmt.known(row.difference) and word != "identical"
        else ""
        for row in rows
    ]
    after = [f" [{CHANGED}]" if row.is_changed else "" for row in rows]
    named = [f"{name}{number}{aside}" for name, number, aside in zip(names, numbers, after)][:MOST_NAMED]
    rest = [f"{len(rows) - MOST_NAMED} more"] if len(rows) > MOST_NAMED else []
    claim = CLAIMS[word][len(rows) > 1].format(facts.baseline)
    return f"{fmt.listing([*named, *rest])} {claim}"


def _plain(row: Row) -> str:
    """Return what the only comparison of an arm found."""
    stock = row.baseline
    means = f"{row.metric} {' against '.join(_means(row.arm_scores, row.baseline_scores))}"
    match row.word:
        case "better" | "worse" | "usually better" | "usually worse":
            small = ", though by less than what matters" if row.within_margin else ""
            return f"{row.arm} is {row.word} than {stock} ({means}){small}"
        case "equivalent":
            return f"{row.arm} makes no difference that matters (less than {_margin(row)} either way)"
        case "non-inferior":
            return f"{row.arm} loses less than {_margin(row)} against {stock}, and may be better"
        case "identical":
            return f"{row.arm} answers exactly as {stock} does"
        case "insensitive":
            return f"these runs would not show harm from {row.arm}"
        case _:
            return f"these runs do not tell whether {row.arm} differs from {stock}"


def _means(*scores: Sequence[float | None]) -> list[str]:
    """Return the means with as many decimals each, three digits of the one nearest to 0."""
    means = [fmt.mean(one) for one in scores]
    sizes = [abs(mean) for mean in means if mean]
    places = max(0, 2 - math.floor(math.log10(min(sizes)))) if sizes else 2
    return [fmt.number(mean, places) for mean in means]


def _margin(row: Row) -> str:
    """Return the margin with its unit; on a log scale it is in hundredths, about per cent."""
    if not fmt.known(row.margin):
        return "the margin"
    return f"{row.margin:g} % of {row.metric}" if row.scale == "log" else f"{row.margin:g} {row.metric}"


def _more(facts: ReportData) -> str:
    """Return what would settle the open comparisons; of several, the one that needs most is not named."""
    open_rows = [row for row in facts.primary if row.word == "inconclusive"]
    remedies = list(dict.fromkeys(filter(None, (settling.remedy(facts, row) for row in open_rows))))
    if not remedies:
        return ""
    if len(remedies) == 1:
        return f": {remedies[0]}"
    return ": the table says how many seeds would settle each"
