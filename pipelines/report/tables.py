"""The tables of the page: comparisons, runs, environment; numbers link to the run folders behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from pipelines.report import format as fmt
from pipelines.report import words
from pipelines.report.facts import Facts, Run
from pipelines.report.figures import svg
from pipelines.report.table import NOTES, Record, groups, headers

_NUMERIC = {1, 2, 3, 4, 5, 7}


def comparisons(facts: Facts) -> str:
    """Primary rows, then the exploratory ones folded away."""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in NOTES)
    signatures = dict.fromkeys((row.metric, row.signature) for row in facts.rows if row.signature)
    notes += "".join(
        f'<p class="note">{escape(metric)}: <code>{escape(signature)}</code></p>'
        for metric, signature in signatures
    )
    body = _table(facts, True) if facts.primary else "<p>No primary comparison.</p>"
    if facts.exploratory:
        count = fmt.plural(len(facts.exploratory), "exploratory comparison")
        body += f"<details><summary>{count}</summary>{_table(facts, False)}</details>"
    return body + notes


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


def _table(facts: Facts, primary: bool) -> str:
    names = (
        headers(facts) if primary else tuple("p" if name == "p (Holm)" else name for name in headers(facts))
    )
    body = ""
    for name, records in groups(facts, primary):
        row = records[0].row
        size = f"n = {fmt.count(row.n_examples)}"
        if row.n_clusters and row.n_clusters != row.n_examples:
            size += f" in {fmt.count(row.n_clusters)} clusters"
        heading = f'{escape(name)} <span class="note">{size}</span>'
        lines = "".join(_line(facts, record) for record in records)
        body += f'<tbody><tr><th scope="rowgroup" colspan="8">{heading}</th></tr>{lines}</tbody>'
    label = "Primary comparisons" if primary else "Exploratory comparisons"
    return scroll(f"<table>{header(names, _NUMERIC)}{body}</table>", label)


def _line(facts: Facts, record: Record) -> str:
    row = record.row
    picture = svg.mark(8, 8, facts.place(row.arm))
    mark = f'<svg class="swatch" viewBox="0 0 16 16" aria-hidden="true">{picture}</svg>'
    cells = (
        f'<th scope="row">{mark}{escape(row.arm)}</th>',
        f'<td class="n">{record.baseline}{seed_links(row.baseline_runs)}</td>',
        f'<td class="n">{record.arm}{seed_links(row.arm_runs)}</td>',
        f'<td class="n">{record.difference} {record.interval}</td>',
        f'<td class="n">{escape(record.p)}</td>',
        f'<td class="n">{record.mde80}</td>',
        f'<td class="verdict">{row.glyph} {escape(record.verdict)}</td>',
        f'<td class="n">{record.time}</td>',
    )
    return f"<tr>{''.join(cells)}</tr>"


def seed_links(runs: Sequence[Run]) -> str:
    """The runs behind a mean, by seed."""
    if not runs:
        return ""
    links = " ".join(f'<a href="{escape(run.href)}">{run.seed}</a>' for run in runs)
    return f'<span class="seeds">{"seed" if len(runs) == 1 else "seeds"} {links}</span>'


def runs(facts: Facts) -> str:
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


def _run(facts: Facts, run: Run) -> str:
    known = run.manifest
    seconds = known.get("total_seconds", known.get("train_seconds"))
    minutes = fmt.number(seconds / 60, 1) if fmt.known(seconds) else fmt.MISSING
    step = (
        f"{fmt.count(known.get('best_step'))} of {fmt.count(known.get('num_steps'))}"
        if known
        else fmt.MISSING
    )
    link = f'<a href="{escape(run.href)}">{run.seed}</a>'
    score = f'<a href="{escape(run.href)}">{fmt.number(run.score, 2)}</a>'
    return (
        f'<tr><th scope="row">{escape(run.arm)}</th><td class="n">{link}</td><td class="n">{score}</td>'
        f'<td class="n">{step}</td><td class="n">{minutes}</td><td>{escape(run.status)}</td></tr>'
    )


def sanity(facts: Facts) -> str:
    """Per arm: what the swap did before training, and whether its runs were fed what their pairs were fed."""
    names = (
        "Arm",
        "Max |difference| before training",
        "Sites",
        "Parameters",
        "Of the variant",
        "Batches",
        "Dropout",
    )
    body = ""
    for cell in facts.cells:
        lines = "".join(_sanity(facts, cell, arm) for arm in facts.arms)
        if lines:
            body += f'<tbody><tr><th scope="rowgroup" colspan="7">{escape(cell)}</th></tr>{lines}</tbody>'
    note = (
        "The difference is between the outputs of the stock model and of the swapped one on one batch, before any "
        "step. Batches: whether the example ids of every step are those of the baseline's run of the same seed."
    )
    table = f"<table>{header(names, {1, 2, 3, 4})}{body}</table>"
    return f'{scroll(table, "Sanity")}<p class="note">{note}</p>' if body else ""


def _sanity(facts: Facts, cell: str, arm: str) -> str:
    manifests = [run.manifest for run in facts.runs_of(cell, arm) if run.manifest]
    if not manifests:
        return ""
    first = manifests[0]
    proof = first.get("proof") or {}
    cells = (
        words.proof(manifests),
        f"{fmt.count(proof.get('reached'))} of {fmt.count(proof.get('expected'))}",
        fmt.count(first.get("num_parameters")),
        fmt.count(first.get("num_variant_parameters")),
    )
    numbers = "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells)
    batches = "" if arm == facts.baseline else _same_batches(facts, cell, arm)
    paired = {manifest.get("dropout_paired") for manifest in manifests}
    dropout = "not paired" if False in paired else "paired" if True in paired else fmt.MISSING
    dropout = "" if arm == facts.baseline else dropout
    return f'<tr><th scope="row">{escape(arm)}</th>{numbers}<td>{batches}</td><td>{dropout}</td></tr>'


def _same_batches(facts: Facts, cell: str, arm: str) -> str:
    """Whether the batches of every pair of runs were the same examples in the same order."""
    baseline = {run.seed: run.manifest.get("batches_hash") for run in facts.runs_of(cell, facts.baseline)}
    pairs = [(run.manifest.get("batches_hash"), baseline.get(run.seed)) for run in facts.runs_of(cell, arm)]
    known = [(mine, theirs) for mine, theirs in pairs if mine and theirs]
    same = sum(mine == theirs for mine, theirs in known)
    return f"equal in {same} of {fmt.plural(len(known), 'pair')}" if known else fmt.MISSING


def environment(facts: Facts) -> str:
    """Versions and machine as a list of terms."""
    known = facts.results.get("environment") or {}
    items = list(_flat(known))
    if facts.results.get("hash"):
        items.insert(0, ("ablation", str(facts.results["hash"])))
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
