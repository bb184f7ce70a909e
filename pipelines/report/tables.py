"""The lines of the page's tables: verdicts, comparisons, arms, runs, environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipelines.report import format as fmt
from pipelines.report import sentences
from pipelines.report.data import ReportData, Row, RunLink
from pipelines.report.rows import Record, groups, headers


@dataclass(frozen=True)
class VerdictMatrix:
    """Arms down, cells across; None where an arm has no primary comparison in a cell."""

    names: list[str]
    lines: list[tuple[str, list[Row | None]]]


@dataclass(frozen=True)
class ComparisonTable:
    """Comparisons grouped by cell and metric."""

    primary: bool
    names: tuple[str, ...]
    groups: list[tuple[str, list[Record]]]


@dataclass(frozen=True)
class ArmLine:
    """How an arm started, what it costs, and whether its runs had the data of their pairs."""

    name: str
    numbers: tuple[str, ...]
    dropout: str


@dataclass(frozen=True)
class RunLine:
    """One run with its steps, minutes and status."""

    link: RunLink
    step: str
    minutes: str
    status: str


def verdicts(facts: ReportData) -> VerdictMatrix:
    """Return the row of every primary comparison by arm and cell."""
    columns = list(dict.fromkeys((row.cell, row.metric) for row in facts.primary))
    found = {(row.arm, row.cell, row.metric): row for row in facts.primary}
    return VerdictMatrix(
        ["Arm", *(f"{cell} · {metric}" for cell, metric in columns)],
        [(arm, [found.get((arm, *column)) for column in columns]) for arm in facts.arms[1:]],
    )


def comparisons(facts: ReportData, primary: bool) -> ComparisonTable | None:
    """Return the table of the primary or of the exploratory rows; None where there are none."""
    named = groups(facts, primary)
    return ComparisonTable(primary, headers(facts, primary), named) if named else None


def arms(facts: ReportData) -> list[tuple[str, list[ArmLine]]]:
    """Return the arms of each cell that have a finished run."""
    cells = [
        (cell, [_arm(facts, cell, arm) for arm in facts.arms if facts.summary(cell, arm).num_runs])
        for cell in facts.cells
    ]
    return [(cell, lines) for cell, lines in cells if lines]


def _arm(facts: ReportData, cell: str, arm: str) -> ArmLine:
    summary, records = facts.summary(cell, arm), facts.records_of(cell, arm)
    row = next((row for row in facts.rows if (row.cell, row.arm) == (cell, arm)), None)
    seconds, memory = facts.step_seconds(cell, arm), summary.peak_memory_bytes
    same = row.identical_predictions if row else None
    numbers = (
        sentences.start_difference(summary),
        sentences.sites(summary, records),
        fmt.count(summary.num_parameters),
        fmt.count(summary.num_variant_parameters),
        _flops(facts, cell, arm),
        fmt.number(1000 * seconds, 1) if seconds is not None else fmt.MISSING,
        f"{memory / 2**30:.2f} GiB" if fmt.known(memory) else fmt.MISSING,
        f"{100 * same:.1f} %" if fmt.known(same) else fmt.MISSING,
        _same_batches(facts, cell, arm) if row else fmt.MISSING,
    )
    paired = {record.dropout_paired for record in records}
    dropout = "not paired" if False in paired else "paired" if True in paired else fmt.MISSING
    return ArmLine(arm, numbers, dropout if row else fmt.MISSING)


def _flops(facts: ReportData, cell: str, arm: str) -> str:
    """Return the FLOPs of the baseline's forward on a batch, or how many per cent more the arm has."""
    mine, theirs = (facts.summary(cell, name).forward_flops for name in (arm, facts.baseline))
    if mine is None or not theirs:
        return fmt.MISSING
    if arm == facts.baseline:
        return f"{fmt.number(mine / 1e6, 1)} M"
    return f"{fmt.signed(100 * (mine / theirs - 1), 0 if mine == theirs else 2)} %"


def _same_batches(facts: ReportData, cell: str, arm: str) -> str:
    """Return how many pairs of runs had the same examples in the same order in every batch: "3 of 3"."""
    mine, baseline = (
        {run.seed: run.record for run in facts.runs_of(cell, name)} for name in (arm, facts.baseline)
    )
    pairs = [(record, other) for seed, record in mine.items() if record and (other := baseline.get(seed))]
    hashes = [(one.batches_hash, other.batches_hash) for one, other in pairs]
    known = [pair for pair in hashes if None not in pair]
    return f"{sum(a == b for a, b in known)} of {len(known)}" if known else fmt.MISSING


def runs(facts: ReportData) -> list[tuple[str, list[RunLine]]]:
    """Return the runs of each cell, by arm."""
    cells = [
        (cell, [_run(run) for arm in facts.arms for run in facts.runs_of(cell, arm)]) for cell in facts.cells
    ]
    return [(cell, lines) for cell, lines in cells if lines]


def _run(run: RunLink) -> RunLine:
    record = run.record
    if record is None:
        return RunLine(run, fmt.MISSING, fmt.MISSING, "unknown")
    seconds = record.total_seconds if record.total_seconds is not None else record.train_seconds
    return RunLine(
        run,
        f"{fmt.count(record.best_step)} of {fmt.count(record.num_steps)}",
        fmt.number(seconds / 60, 1) if fmt.known(seconds) else fmt.MISSING,
        record.status,
    )


def environment(facts: ReportData) -> list[tuple[str, str]]:
    """Return the hash of the ablation, then versions and machine, as terms with their values."""
    kind = "comparison" if facts.is_after_the_fact else "ablation"
    return [(kind, facts.results.hash), *_sources(facts), *_flat(facts.results.environment)]


def _sources(facts: ReportData) -> Iterator[tuple[str, str]]:
    """Yield the files of each side of a comparison after the fact."""
    for arm, files in (facts.results.sources or {}).items():
        yield from ((arm, f"{one.layout} (sha256 {one.sha256[:16]})") for one in files)


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        elif isinstance(value, list):
            if value:
                yield f"{prefix}{name}", ", ".join(map(str, value))
        elif value is not None and value != "":
            yield f"{prefix}{name}", str(value)
