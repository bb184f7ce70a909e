"""Sentences about the results: verdicts, the methods paragraph, the registration, what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pipelines.comparison.results import CHANGED, ArmSummary, Failure, Registration
from pipelines.comparison.words import DIFFERENT
from pipelines.data.counts import describe_cuts
from pipelines.report import format as fmt
from pipelines.report import looks, over_cells, recipe, searches, settling
from pipelines.report.data import VERDICTS, ReportData, Row, RunRecord
from pipelines.tasks.shared.generation import describe_set_aside

TWO_MODELS = "this is about these models, not about how they were trained: each side has one"
BEST = "best on validation"  # the reason of an ordinary choice in a search; any other reason is reported
MEANINGS = {
    "better": "the 95 % interval lies above 0 and the Holm-adjusted p is below 0.05",
    "worse": "the 95 % interval lies below 0 and the Holm-adjusted p is below 0.05",
    "usually better": "as better, but falls that no seed showed, at a rate they allow, would undo it",
    "usually worse": "as worse, but falls that no seed showed, at a rate they allow, would undo it",
    "equivalent": "the 90 % interval lies inside the margin, also adjusted for its family",
    "non-inferior": "the 90 % interval stays above minus the margin, also adjusted for its family",
    "insensitive": "no harm, but none would be seen: a run learned nothing, or the assay found no harm",
    "identical": "the same outputs on every example",
    "inconclusive": "no other verdict holds, which is not the same as no difference",
    "unstable": "some runs of the arm diverged; the difference over the others is exploratory",
    "no-verdict": "a run is missing, or fewer than three seeds compare checkpoints, not methods",
}


def comparison(row: Row) -> str:
    """Return one row as a clause: its finding, and whether what it rests on changed afterwards."""
    return f"{_finding(row)}, {CHANGED}" if row.is_changed else _finding(row)


def _finding(row: Row) -> str:
    """Return the difference, its interval, and what could have been detected."""
    difference = f"{fmt.signed(row.difference, row.places)} {row.unit}"
    found = f"{row.metric} {difference}, 95 % interval {_range(row)}{_ratio(row)}"
    if row.word in DIFFERENT:
        aside = ", within the margin" if "within the margin" in row.verdict else ""
        return f"{row.word} than {row.baseline}{aside} ({found}{_shrunken(row)})"
    if row.word == "equivalent":
        return f"equivalent to {row.baseline} within ±{_margin(row)} ({found})"
    if row.word == "non-inferior":
        return f"not worse than {row.baseline} by more than {_margin(row)} ({found})"
    if row.word == "identical":
        return f"identical to {row.baseline}: the same outputs on all {fmt.count(row.n_examples)} examples"
    if row.word == "inconclusive":
        could = (
            f"; {fmt.number(row.mde80, row.places)} would be detected four times in five" if row.mde80 else ""
        )
        why = f": {row.reason}" if row.reason.startswith("it would") else ""
        return f"inconclusive ({found}{could}){why}"
    if row.word == "insensitive":
        return f"insensitive: {row.reason} ({found})"
    rest = f" ({found}, exploratory)" if fmt.known(row.difference) else ""
    return f"{row.word.replace('no-verdict', 'no verdict')}: {row.reason or MEANINGS.get(row.word, '')}{rest}"


def arm(facts: ReportData, name: str) -> str:
    """Return an arm's verdict as a sentence; several primary comparisons are counted by verdict."""
    rows = [row for row in facts.primary if row.arm == name]
    if planted := [row for row in facts.rows if row.planted and row.arm == name]:
        by_cell = {row.cell: row for row in reversed(planted)}  # the first of a cell is its primary metric
        found = [
            f"{'found' if row.word.endswith('worse') else 'not found'} on {cell}"
            for cell, row in by_cell.items()
        ]
        return f"planted harm, {fmt.listing(found)}."
    if not rows:
        return "no primary comparison"
    if len(rows) == 1:
        note = settling.note(facts, rows[0])
        return f"{comparison(rows[0])} on {rows[0].cell}{f': {note}' if note else ''}."
    counts = Counter(row.word for row in rows)
    ordered = sorted(
        counts, key=lambda word: list(VERDICTS).index(word) if word in VERDICTS else len(VERDICTS)
    )
    parts = [f"{word.replace('no-verdict', 'without a verdict')} in {counts[word]}" for word in ordered]
    return f"{fmt.listing(parts)} of {len(rows)} primary comparisons.{over_cells.sentence(facts, name)}"


def introduction(facts: ReportData) -> str:
    """Return what was compared, as a sentence."""
    metrics = fmt.listing(list(dict.fromkeys(row.metric for row in facts.primary)))
    seeds = sorted({len(row.seeds) for row in facts.primary})
    spread = (
        f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else fmt.plural(seeds[0] if seeds else 0, "seed")
    )
    nouns = {"comparison after the fact": "side", "model comparison": "model"}
    arms = fmt.plural(len(facts.arms) - 1, nouns.get(recipe.kind(facts), "arm"))
    pairing = "one model each" if facts.of_two_models else f"{spread} each, paired by seed"
    cells = facts.cells[0] if len(facts.cells) == 1 else fmt.plural(len(facts.cells), "cell")
    return (
        f"{arms} against {facts.baseline} on {cells}, {pairing}. "
        f"Primary: {metrics or 'none'}. Differences are signed so that positive is better for the arm."
    )


def methods(facts: ReportData) -> str:
    """Return a paragraph for the methods section of a paper, from the results and the manifests."""
    rows = facts.primary or list(facts.rows)
    if not rows:
        return "No comparison was finished."
    if facts.is_after_the_fact:
        return _methods_after_the_fact(facts, rows)
    seeds = sorted({len(row.seeds) for row in rows})
    counts = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    told = recipe.paragraph(facts)
    planted = list(dict.fromkeys(row.arm for row in facts.rows if row.planted))
    compared = [arm for arm in facts.arms[1:] if arm not in planted]
    cells = f" ({'; '.join(_cell(facts, cell) for cell in facts.cells)})"
    margins = {row.metric: row.margin for row in rows if fmt.known(row.margin)}
    margin = "; ".join(f"±{value:g} {metric}" for metric, value in margins.items())
    shared = "initial weights, data order and dropout masks"
    if not _dropout_paired(facts):
        shared = "initial weights and data order"
    if recipe.kind(facts) == "model comparison":
        shared = "the order of the data, and nothing of the models,"
    text = (
        f"We compared {fmt.listing(compared)} with {recipe.baseline(facts)}{'' if told else cells}, "
        f"training {counts} {'seed' if seeds == [1] else 'seeds'} per arm. {told}"
        f"Runs of one seed share {shared} across arms; checkpoints were chosen on "
        "validation data. Differences were tested with a two-way test over seeds and examples, with "
        "delete-one jackknife variance for examples, the variance of paired seed differences, and the "
        "distribution of Behrens and Fisher; p values of the "
        f"{fmt.plural(len(facts.primary), 'primary comparison')} were adjusted by Holm's method. "
    )
    text += _margins(facts, margin)
    if planted:
        text += f"{fmt.listing(planted)} was planted to be worse, to show that harm would be seen. "
    if any(row.looks for row in rows):
        text += (
            "Seeds were added until every primary comparison was settled or the declared most was reached; "
            "intervals and p values hold at all looks together. "
        )
    text += searches.sentences(facts)
    if facts.results.failures:
        text += (
            f"{fmt.plural(len(facts.results.failures), 'run')} failed or diverged and stayed in the count. "
        )
    return f"{text}{_versions(facts)} To repeat it: {'; '.join(recipe.commands(facts))}."


def _methods_after_the_fact(facts: ReportData, rows: Sequence[Row]) -> str:
    """Return the paragraph of a comparison of what others made."""
    row, margins = rows[0], {row.metric: row.margin for row in rows if fmt.known(row.margin)}
    clustered = row.n_clusters != row.n_examples
    size = fmt.count(row.n_examples) + (f" in {fmt.count(row.n_clusters)} clusters" if clustered else "")
    text = (
        f"After the fact, we compared {fmt.listing(facts.arms[1:])} with {facts.baseline} by {row.metric} "
        f"[{row.signature}] on the same {size} examples, paired by example"
    )
    if facts.of_two_models:
        text += ", one model a side. Differences were tested with a paired test over examples: delete-one "
        text += "jackknife variance and a t distribution; how training varies is not known. "
    else:
        text += f" and by seed, {len(row.seeds)} seeds a side. Differences were tested with a two-way test "
        text += "over seeds and examples, with delete-one jackknife variance for examples, the variance of "
        text += "paired seed differences, and the distribution of Behrens and Fisher. "
    family = fmt.plural(len(facts.primary), "primary comparison")
    text += f"P values of the {family} were adjusted by Holm's method. "
    margin = "; ".join(f"±{value:g} {metric}" for metric, value in margins.items())
    text += f"Equivalence margins: {margin}; their one-sided p values are a family too. " if margin else ""
    return text + "Neither metric nor margin was registered before the predictions were made."


def _margins(facts: ReportData, margin: str) -> str:
    """Return the margins, and what changed after the registration."""
    known = facts.results.registration
    after = known.changed_afterwards if known else ()
    beforehand = "" if any("margin" in change for change in after) else ", declared beforehand"
    family = "their one-sided p values are a family too"
    text = f"Equivalence margins{beforehand}: {margin}; {family}. " if margin else ""
    return text + (f"Changed after the registration: {'; '.join(after)}. " if after else "")


def registration(facts: ReportData) -> str:
    """Return what was declared before the first run, what has changed since, and the looks, as sentences."""
    return " ".join([_registered(facts), *looks.sentences(facts)])


def _registered(facts: ReportData) -> str:
    """Return what was declared before the first run, and what has changed since."""
    known = facts.results.registration
    if facts.is_after_the_fact:
        return (
            "A comparison after the fact: nothing was registered before the predictions were made, so a "
            "metric, a margin and the sides could be chosen by what they show."
        )
    if known is None:
        return "Not registered: metric, margin, seeds and stopping rule were not hashed before the first run."
    written = f"{known.time}, " if known.time else ""
    before = {arm: n for arm, n in (known.finished_before or {}).items() if n}
    already = sum(n for arm, n in before.items() if arm != facts.baseline)
    when = "late" if already else "before the first run"
    if before and not already:
        when += f" of an arm; {fmt.plural(before[facts.baseline], 'run')} of {facts.baseline} had been made"
    text = f"Registered {when} ({written}{known.hash[:16]}{_anchor(known)})"
    if already:
        text += f": {fmt.plural(already, 'run')} of these arms existed before"
    if known.changed_afterwards:
        listed = "; ".join(known.changed_afterwards)
        return f"{text}, but changed afterwards: {listed}. Read its p values as exploratory."
    if already:
        return f"{text}; unchanged since. Read its p values as exploratory where those runs were looked at."
    return f"{text}: {_declared(facts)}; unchanged since."


def _anchor(known: Registration) -> str:
    """Return where a registration was put before the first run; several as one have no such place."""
    if known.anchor is None:
        return ""
    what = "time stamp" if known.anchor["kind"].startswith("http") else "commit"
    return f", anchored at {known.anchor['kind']} {what} {known.anchor['commit'][:16]}"


def _declared(facts: ReportData) -> str:
    """Return what the registration holds; one of 0.1 declares neither settings nor data."""
    known = facts.results.registration
    hypotheses = "primary metric, margin, seeds, arms, cells and stopping rule"
    if known is None or known.declared is None:
        return hypotheses
    more = "settings, data, metric signatures and source files"
    if "settings" not in known.declared:
        return f"{hypotheses}, but no {more.replace(' and ', ' or ')} (attnlab 0.1 declared less)"
    return f"{hypotheses}, with {more}"


def failure(entry: Failure) -> str:
    """Return one failed run as a clause."""
    step = f" at step {entry.step}" if entry.step is not None else ""
    reason = f" ({entry.reason})" if entry.reason else ""
    return f"{entry.cell}, {entry.arm}, seed {entry.seed} {entry.status}{step}{reason}"


def alerts(facts: ReportData) -> list[str]:
    """Return failed runs, then every reason to read a primary comparison with care."""
    found = [failure(entry) for entry in facts.results.failures]
    several = [
        row for row in facts.primary if len(facts.cells) > 1 and row.word in ("unstable", "no-verdict")
    ]
    found += [f"{row.arm} on {row.cell}: {comparison(row)}" for row in several]
    found += [
        f"{arm} on {cell}: {search.reason} ({searches.setting(search.chosen, search.settings)})"
        for cell in facts.cells
        for arm in facts.arms
        if (search := facts.summary(cell, arm).search) is not None and search.reason != BEST
    ]
    found += [
        f"{arm} on {cell}: {clause}"
        for cell in facts.cells
        for arm in facts.arms
        if (clause := facts.summary(cell, arm).without_model) is not None
    ]
    found += [f"{TWO_MODELS[0].upper()}{TWO_MODELS[1:]}"] if facts.of_two_models else []
    return found + [f"{row.arm} on {row.cell}: {flag}" for row in facts.primary for flag in row.flags]


def start_difference(summary: ArmSummary) -> str:
    """Return an arm's largest difference from stock before training, or why there is none."""
    if summary.proof is None:
        return fmt.MISSING
    if summary.proof.starts_as_stock is False:
        return "not stock, by design"
    return fmt.small(summary.proof.max_difference)


def sites(summary: ArmSummary, records: Sequence[RunRecord]) -> str:
    """Return the attention sites reached, "6 of 6" where a manifest states how many there are."""
    reached = summary.proof.sites if summary.proof is not None else None
    expected = [record.proof.expected for record in records if record.proof is not None]
    return f"{fmt.count(reached)} of {fmt.count(expected[0])}" if expected else fmt.count(reached)


def _dropout_paired(facts: ReportData) -> bool:
    """Return whether no run states that its dropout masks differ from those of its pair."""
    return all(
        record.dropout_paired is not False
        for run in facts.runs.values()
        if (record := run.record) is not None
    )


def _range(row: Row) -> str:
    ends = fmt.bounds(row.ci95)
    return f"{fmt.signed(ends[0], row.places)} to {fmt.signed(ends[1], row.places)}" if ends else "unknown"


def _ratio(row: Row) -> str:
    """Return the arm's score over the baseline's, on a log scale; empty on a linear one."""
    if not fmt.known(row.ratio) or row.ratio_ci95 is None:
        return ""
    places = row.places + 2  # a difference of 1 is a ratio of 1.01
    low, high = (fmt.number(bound, places) for bound in row.ratio_ci95)
    return f"; ratio {fmt.number(row.ratio, places)}, {low} to {high}"


def _shrunken(row: Row) -> str:
    """Return the estimate that allows for the selection of large ones."""
    if not fmt.known(row.shrunken):
        return ""
    return f"; {fmt.signed(row.shrunken, row.places)} allowing for the winner's curse"


def _margin(row: Row) -> str:
    return f"{row.margin:g}" if fmt.known(row.margin) else "the margin"


def _cell(facts: ReportData, cell: str) -> str:
    row = next(row for row in (*facts.primary, *facts.rows) if row.cell == cell)
    size = f"{fmt.count(row.n_examples)} {row.split or 'test'} examples"
    return f"{row.model} on {row.task}, {size}, {row.metric}{f' [{row.signature}]' if row.signature else ''}"


def _versions(facts: ReportData) -> str:
    packages = facts.results.environment.get("versions")
    if not isinstance(packages, Mapping):
        return ""
    named = [f"{name} {version}" for name, version in sorted(packages.items())]
    python = facts.results.environment.get("python")
    named = [*([f"Python {python}"] if isinstance(python, str) else []), *named]
    return f"Software: {', '.join(named)}." if named else ""


def data_losses(facts: ReportData) -> Iterator[str]:
    """Yield what was cut from each cell's data to fit the model, and what of the checkpoint is not used.

    All arms share it.
    """
    for cell in facts.cells:
        records = [record for arm in facts.arms for record in facts.records_of(cell, arm)]
        unused = records[0].generation_set_aside if records else {}
        if unused:
            yield f"{cell}: {describe_set_aside(unused)}."
        counts = records[0].data.counts if records else {}
        for split, found in counts.items():
            losses = describe_cuts(found)
            if losses:
                yield f"{cell}, {split}{losses.replace(';', ':', 1)}."
