"""The tables of the page: comparisons, runs, environment; numbers link to the run folders behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from pipelines.report import format as fmt
from pipelines.report import sentences
from pipelines.report.data import ReportData, Row, RunLink, RunRecord
from pipelines.report.figures import svg
from pipelines.report.rows import Record, groups, headers, notes

_NUMERIC = {1, 2, 3, 4, 5, 7}


def comparisons(facts: ReportData) -> str:
    """Primary rows, then the exploratory ones folded away."""
    told = "".join(f'<p class="note">{escape(note)}</p>' for note in notes(facts))
    signatures = dict.fromkeys((row.metric, row.signature) for row in facts.rows if row.signature)
    told += "".join(
        f'<p class="note">{escape(metric)}: <code>{escape(signature)}</code></p>'
        for metric, signature in signatures
    )
    body = _table(facts, True) if facts.primary else "<p>No primary comparison.</p>"
    if facts.exploratory:
        count = fmt.plural(len(facts.exploratory), "exploratory comparison")
        body += f"<details><summary>{count}</summary>{_table(facts, False)}</details>"
    return body + told


def scroll(table: str, label: str) -> str:
    """A box that scrolls sideways when its table is wider than the page, also from the keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{table}</div>'


def header(names: Sequence[str], numeric: set[int]) -> str:
    cells = "".join(
        f'<th scope="col"{_numeric(place in numeric)}>{escape(name)}</th>' for place, name in enumerate(names)
    )
    return f"<thead><tr>{cells}</tr></thead>"


def _numeric(yes: bool) -> str:
    return ' class="n"' if yes else ""


def _table(facts: ReportData, primary: bool) -> str:
    names = headers(facts, primary)
    body = ""
    for name, records in groups(facts, primary):
        row = records[0].row
        size = f"n = {fmt.count(row.n_examples)}"
        if row.n_clusters and row.n_clusters != row.n_examples:
            size += f" in {fmt.count(row.n_clusters)} clusters"
        heading = f'{escape(name)} <span class="note">· {size}</span>'
        lines = "".join(_line(facts, record) for record in records)
        body += f'<tbody><tr><th scope="rowgroup" colspan="8">{heading}</th></tr>{lines}</tbody>'
    label = "Primary comparisons" if primary else "Exploratory comparisons"
    return scroll(f"<table>{header(names, _NUMERIC)}{body}</table>", label)


def _line(facts: ReportData, record: Record) -> str:
    row = record.row
    cells = (
        f'<th scope="row">{arm_name(facts, row.arm)}</th>',
        f'<td class="n">{record.baseline}{seed_links(row.baseline_runs)}</td>',
        f'<td class="n">{record.arm}{seed_links(row.arm_runs)}</td>',
        f'<td class="n">{record.effect}</td>',
        f'<td class="n">{escape(record.p)}</td>',
        f'<td class="n">{record.mde80}</td>',
        f'<td class="verdict">{row.glyph} {escape(record.verdict)}</td>',
        f'<td class="n">{record.time}</td>',
    )
    return f"<tr>{''.join(cells)}</tr>"


def seed_links(runs: Sequence[RunLink]) -> str:
    """The runs behind a mean, by seed."""
    if not runs:
        return ""
    links = " ".join(f'<a href="{escape(run.href)}">{run.seed}</a>' for run in runs)
    return f'<span class="seeds">{"seed" if len(runs) == 1 else "seeds"} {links}</span>'


def verdicts(facts: ReportData) -> str:
    """Arms down, cells across: the difference and the verdict of every primary comparison."""
    columns = list(dict.fromkeys((row.cell, row.metric) for row in facts.primary))
    found = {(row.arm, row.cell, row.metric): row for row in facts.primary}
    body = ""
    for arm in facts.arms[1:]:
        rows = [found.get((arm, *column)) for column in columns]
        cells = "".join(_verdict(row) for row in rows)
        body += f'<tr><th scope="row">{arm_name(facts, arm)}</th>{cells}</tr>'
    names = ["Arm", *(f"{cell} · {metric}" for cell, metric in columns)]
    table = f"<table>{header(names, set())}<tbody>{body}</tbody></table>"
    return scroll(table, "Verdicts of arms by cell")


def _verdict(row: Row | None) -> str:
    if row is None:
        return f"<td>{fmt.MISSING}</td>"
    value = fmt.signed(row.difference, row.places)
    verdict = f"{row.glyph} {escape(row.verdict)}"
    class_ = ' class="settled"' if row.settled else ""
    return f'<td{class_}><span class="big">{value}</span><span class="under">{verdict}</span></td>'


def arm_name(facts: ReportData, arm: str) -> str:
    """The arm's mark and its name, kept together."""
    picture = svg.mark(8, 8, facts.place(arm))
    mark = f'<svg class="swatch" viewBox="0 0 16 16" aria-hidden="true">{picture}</svg>'
    return f'<span class="arm">{mark}<span>{escape(arm)}</span></span>'


def runs(facts: ReportData) -> str:
    """Every run: score, status, steps, time, linked to its folder."""
    names = ("Arm", "Seed", "Score", "Best step", "Minutes", "Status")
    body = ""
    for cell in facts.cells:
        lines = "".join(_run(facts, run) for arm in facts.arms for run in facts.runs_of(cell, arm))
        if lines:
            body += f'<tbody><tr><th scope="rowgroup" colspan="6">{escape(cell)}</th></tr>{lines}</tbody>'
    if not body:
        return ""
    table = scroll(f"<table>{header(names, {1, 2, 3, 4})}{body}</table>", "Runs")
    count = fmt.plural(len(facts.runs), "run")
    return f"<details><summary>{count}, each with its folder</summary>{table}</details>"


def _run(facts: ReportData, run: RunLink) -> str:
    known = run.record or RunRecord()
    seconds = known.total_seconds if known.total_seconds is not None else known.train_seconds
    minutes = fmt.number(seconds / 60, 1) if fmt.known(seconds) else fmt.MISSING
    step = f"{fmt.count(known.best_step)} of {fmt.count(known.num_steps)}" if run.record else fmt.MISSING
    link = f'<a href="{escape(run.href)}">{run.seed}</a>'
    score = f'<a href="{escape(run.href)}">{fmt.number(run.score, 2)}</a>'
    return (
        f'<tr><th scope="row">{arm_name(facts, run.arm)}</th><td class="n">{link}</td>'
        f'<td class="n">{score}</td><td class="n">{step}</td><td class="n">{minutes}</td>'
        f"<td>{escape(known.status)}</td></tr>"
    )


def arms(facts: ReportData) -> str:
    """Per arm: what the swap did before training, what it costs, whether it was fed what its pair was fed."""
    body = ""
    for cell in facts.cells:
        lines = "".join(_arm(facts, cell, arm) for arm in facts.arms if facts.summary(cell, arm).num_runs)
        if lines:
            heading = f'<tr><th scope="rowgroup" colspan="{len(_ARM_HEADERS)}">{escape(cell)}</th></tr>'
            body += f"<tbody>{heading}{lines}</tbody>"
    note = (
        "Max |Δ| at start: the largest difference between the outputs of the stock model and of the swapped "
        "one on a real batch, before any step. FLOPs: of the products of matrices in one forward of four "
        "features. Same output: share of examples with equal predictions. Same "
        "batches: pairs of one seed whose steps held the same examples."
    )
    note += "".join(f" {escape(sentence)}" for sentence in sentences.data_losses(facts))
    table = f"<table>{header(_ARM_HEADERS, set(range(1, 10)))}{body}</table>"
    return f'{scroll(table, "Arms")}<p class="note">{note}</p>' if body else ""


_ARM_HEADERS = (
    "Arm",
    "Max |Δ| at start",
    "Sites",
    "Parameters",
    "added",
    "FLOPs",
    "ms / step",
    "Peak memory",
    "Same output",
    "Same batches",
    "Dropout",
)


def _arm(facts: ReportData, cell: str, arm: str) -> str:
    summary, records = facts.summary(cell, arm), facts.records_of(cell, arm)
    row = next((row for row in facts.rows if (row.cell, row.arm) == (cell, arm)), None)
    seconds, memory = facts.step_seconds(cell, arm), summary.peak_memory_bytes
    same = row.identical_predictions if row else None
    cells = (
        sentences.start_difference(summary),
        sentences.sites(summary, records),
        fmt.count(summary.num_parameters),
        fmt.count(summary.num_variant_parameters),
        _flops(facts, cell, arm),
        fmt.number(1000 * seconds, 1) if fmt.known(seconds) else fmt.MISSING,
        f"{memory / 2**30:.2f} GiB" if fmt.known(memory) else fmt.MISSING,
        f"{100 * same:.1f} %" if fmt.known(same) else fmt.MISSING,
        _same_batches(facts, cell, arm) if row else fmt.MISSING,
    )
    paired = {record.dropout_paired for record in records}
    dropout = "not paired" if False in paired else "paired" if True in paired else fmt.MISSING
    numbers = "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells)
    last = f"<td>{dropout if row else fmt.MISSING}</td>"
    return f'<tr><th scope="row">{arm_name(facts, arm)}</th>{numbers}{last}</tr>'


def _flops(facts: ReportData, cell: str, arm: str) -> str:
    """Of a forward on the same batch: the baseline's own, and what an arm has more."""
    mine, theirs = (facts.summary(cell, name).forward_flops for name in (arm, facts.baseline))
    if not fmt.known(mine) or not theirs:
        return fmt.MISSING
    if arm == facts.baseline:
        return f"{fmt.number(mine / 1e6, 1)} M"
    return f"{fmt.signed(100 * (mine / theirs - 1), 0 if mine == theirs else 2)} %"


def _same_batches(facts: ReportData, cell: str, arm: str) -> str:
    """Whether the batches of every pair of runs were the same examples in the same order."""
    mine, baseline = (
        {run.seed: run.record for run in facts.runs_of(cell, one)} for one in (arm, facts.baseline)
    )
    pairs = [(record, other) for seed, record in mine.items() if record and (other := baseline.get(seed))]
    hashes = [(one.batches_hash, other.batches_hash) for one, other in pairs]
    known = [pair for pair in hashes if None not in pair]
    return f"{sum(a == b for a, b in known)} of {len(known)}" if known else fmt.MISSING


def environment(facts: ReportData) -> str:
    """Versions and machine as a list of terms."""
    items = [("ablation", facts.results.hash), *_flat(facts.results.environment)]
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in items)
    return f'<dl class="facts">{listed}</dl>' if items else ""


def _flat(known: Mapping, prefix: str = "") -> list[tuple[str, str]]:
    items = []
    for name, value in known.items():
        if isinstance(value, Mapping):
            items += _flat(value, f"{prefix}{name} ")
        elif value not in (None, "", [], {}):
            items.append(
                (f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value))
            )
    return items
