"""The table of comparisons as text, shared by every format."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.report import format as fmt
from pipelines.report import settling
from pipelines.report.data import ReportData, Row

NOTES = (
    "Means ± sample standard deviation over seeds. "
    "Differences pair the seeds and are positive where the arm is better.",
    "p: two-way test over seeds and examples, Holm-adjusted over the primary comparisons. "
    "MDE80: the difference this design detects four times in five.",
    "Δ s / step, Δ time: training time per step against the baseline in per cent, interval over seeds.",
    "Exploratory rows carry intervals and unadjusted p; they claim nothing.",
)


@dataclass(frozen=True)
class Record:
    """One line of the table as text."""

    row: Row
    baseline: str
    arm: str
    difference: str
    interval: str
    p: str
    mde80: str
    verdict: str
    note: str  # why, or what would settle it
    time: str
    time_interval: str

    @property
    def cost(self) -> str:
        """Change of the time per step with its interval; one dash where neither is known."""
        return self.time if self.time_interval == fmt.MISSING else f"{self.time} {self.time_interval}"

    @property
    def effect(self) -> str:
        """Difference and interval; one dash where neither is known."""
        return self.difference if self.interval == fmt.MISSING else f"{self.difference} {self.interval}"


def headers(facts: ReportData, primary: bool = True) -> tuple[str, ...]:
    """Return the column names; only p values of primary rows are adjusted."""
    return (
        "Arm",
        f"{facts.baseline}, mean ± sd",
        "Arm, mean ± sd",
        "Difference [95 % CI]",
        "p (Holm)" if primary else "p",
        "MDE80",
        "Verdict",
        f"Δ {seconds(facts)} / step",
    )


def seconds(facts: ReportData) -> str:
    """Return the unit of times: on a CPU the seconds that the process computed."""
    return "CPU s" if facts.results.environment.get("device") == "cpu" else "s"


def record(facts: ReportData, row: Row) -> Record:
    """Return a row as text, with the decimals that its standard error supports."""
    return Record(
        row,
        fmt.mean_sd(row.baseline_scores),
        fmt.mean_sd(row.arm_scores),
        fmt.signed(row.difference, row.places),
        fmt.interval(row.ci95, row.places),
        fmt.p_value(row.p_holm if row.primary else row.p),
        fmt.number(row.mde80, row.places),
        row.verdict,
        settling.note(facts, row),
        fmt.percent_change(facts.time_ratio(row)),
        fmt.interval([100 * (end - 1) for end in facts.time_interval(row) or ()], 0),
    )


def notes(facts: ReportData) -> list[str]:
    """Return how to read the table, as sentences."""
    found = [note for note in NOTES if not (facts.is_after_the_fact and note.startswith("Δ s / step"))]
    if any(row.scale == "log" for row in facts.rows):
        found.append("Metrics on a log scale: a difference of 1 is a factor of exp(0.01), about 1 %.")
    if any(row.looks for row in facts.primary):
        found.append("Seeds were added one by one: intervals and adjusted p hold at every look together.")
    return found + data_notes(facts)


def data_notes(facts: ReportData) -> list[str]:
    """Return the notes on the data of each cell, which all of its runs share, as sentences."""
    found = []
    for cell in facts.cells:
        record = next(iter(facts.records_of(cell, facts.baseline)), None)
        name = f"{cell}, " if len(facts.cells) > 1 else ""
        found += [f"Data: {name}{note}." for note in (record.data.notes if record else ())]
    return found


def groups(facts: ReportData, primary: bool) -> list[tuple[str, list[Record]]]:
    """Return the lines of each cell and metric under their common name."""
    named: dict[str, list[Record]] = {}
    for row in facts.primary if primary else facts.exploratory:
        named.setdefault(f"{row.cell} · {row.metric}, in {row.unit}", []).append(record(facts, row))
    return list(named.items())
