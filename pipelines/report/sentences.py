"""Sentences written from the facts: verdicts in plain words, the methods paragraph, the registration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.data.counts import describe_cuts
from pipelines.report import format as fmt
from pipelines.report.data import VERDICTS, ReportData, Row

BEST = "best on validation"  # why a search chose what it did, where there is nothing more to say
MEANINGS = {
    "better": "the 95 % interval excludes 0 and the Holm-adjusted p is below 0.05",
    "worse": "the same, on the other side",
    "equivalent": "the 90 % interval lies inside the margin",
    "non-inferior": "the 90 % interval stays above minus the margin",
    "identical": "the same outputs on every example",
    "inconclusive": "none of these: not the same as no difference",
    "unstable": "some runs of the arm diverged; the difference over the others is exploratory",
    "no-verdict": "a run is missing, or fewer than three seeds compare checkpoints, not methods",
}


def comparison(row: Row) -> str:
    """One row in a sentence: what was found, how sure, and what could have been found."""
    found = f"{row.metric} {fmt.signed(row.difference, row.places)}, 95 % interval {_range(row)}{_ratio(row)}"
    if row.word in ("better", "worse"):
        aside = ", within the margin" if "within the margin" in (row.verdict or "") else ""
        return f"{row.word} than {row.baseline}{aside} ({found})"
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
        return f"inconclusive ({found}{could})"
    rest = f" ({found}, exploratory)" if fmt.known(row.difference) else ""
    return f"{row.word.replace('no-verdict', 'no verdict')}: {row.reason or MEANINGS.get(row.word, '')}{rest}"


def arm(facts: ReportData, name: str) -> str:
    """An arm over all its primary comparisons; several cells are counted by verdict."""
    rows = [row for row in facts.primary if row.arm == name]
    if not rows:
        return "no primary comparison"
    if len(rows) == 1:
        return f"{comparison(rows[0])} on {rows[0].cell}."
    counts = Counter(row.word for row in rows)
    ordered = sorted(
        counts, key=lambda word: list(VERDICTS).index(word) if word in VERDICTS else len(VERDICTS)
    )
    parts = [f"{word.replace('no-verdict', 'without a verdict')} in {counts[word]}" for word in ordered]
    return f"{fmt.listing(parts)} of {len(rows)} primary comparisons."


def lead(facts: ReportData) -> str:
    """What was compared, in a sentence."""
    metrics = fmt.listing(list(dict.fromkeys(row.metric for row in facts.primary)))
    seeds = sorted({len(row.seeds or ()) for row in facts.primary})
    spread = (
        f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else fmt.plural(seeds[0] if seeds else 0, "seed")
    )
    arms = fmt.plural(len(facts.arms) - 1, "arm")
    cells = facts.cells[0] if len(facts.cells) == 1 else fmt.plural(len(facts.cells), "cell")
    return (
        f"{arms} against {facts.baseline} on {cells}, {spread} each, paired by seed. "
        f"Primary: {metrics or 'none'}. Differences are signed so that positive is better for the arm."
    )


def methods(facts: ReportData) -> str:
    """A paragraph to paste into a paper; every figure in it comes from the results and the manifests."""
    rows = facts.primary or list(facts.rows)
    if not rows:
        return "No comparison was finished."
    seeds = sorted({len(row.seeds or ()) for row in rows})
    counts = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    cells = "; ".join(_cell(facts, cell) for cell in facts.cells)
    margins = {row.metric: row.margin for row in rows if fmt.known(row.margin)}
    margin = "; ".join(f"±{value:g} {metric}" for metric, value in margins.items())
    shared = "data order and dropout masks" if _dropout_paired(facts) else "and data order"
    text = (
        f"We compared {fmt.listing(facts.arms[1:])} with {facts.baseline} attention ({cells}), training "
        f"{counts} {'seed' if seeds == [1] else 'seeds'} per arm. Runs of one seed share initial weights, "
        f"{shared} across arms; checkpoints were chosen on validation data. Differences were tested with a "
        "two-way t over seeds and examples, with delete-one jackknife variance for examples, the variance of "
        "paired seed differences and degrees of freedom averaged between them; p values of the "
        f"{fmt.plural(len(facts.primary), 'primary comparison')} were adjusted by Holm's method. "
    )
    if margin:
        text += f"Equivalence margins, declared beforehand: {margin}. "
    text += search(facts)
    if facts.failures:
        text += f"{fmt.plural(len(facts.failures), 'run')} failed or diverged and stayed in the count. "
    return text + _versions(facts)


def search(facts: ReportData) -> str:
    """How learning rates were chosen, as a sentence; empty where they were stated."""
    found = {
        (cell, arm): facts.about(cell, arm)["search"]
        for cell in facts.cells
        for arm in facts.arms
        if facts.about(cell, arm).get("search")
    }
    if not found:
        return ""
    first = next(iter(found.values()))
    rates = fmt.listing([f"{one['learning_rate']:g}" for one in first["tried"]])
    several = len(facts.cells) > 1
    chosen = "; ".join(
        f"{arm}{f' on {cell}' if several else ''} {one['chosen']:g}" for (cell, arm), one in found.items()
    )
    tries = len(first["tried"]) * len(first["seeds"])
    return (
        f"Every arm was given the same search on validation data, {fmt.plural(tries, 'run')} over the "
        f"learning rates {rates}; chosen: {chosen}. "
    )


def registration(facts: ReportData) -> str:
    """Whether what is claimed was written down before the first run."""
    known = facts.results.get("registration")
    if not known:
        return "Not registered: metric, margin, seeds and stopping rule were not hashed before the first run."
    written = f"{known['time']}, " if known.get("time") else ""
    before = {arm: n for arm, n in (known.get("finished_before") or {}).items() if n}
    seen = sum(n for arm, n in before.items() if arm != facts.baseline)
    when = f"after {fmt.plural(seen, 'run')} of its arms" if seen else "before the first run"
    if before and not seen:
        when += f" of an arm; {fmt.plural(before[facts.baseline], 'run')} of {facts.baseline} had been made"
    text = f"Registered {when} ({written}{str(known.get('hash', ''))[:16]})"
    changed = known.get("changed_afterwards")
    if changed:
        return f"{text}, but changed afterwards: {fmt.listing(changed)}. Read its p values as exploratory."
    if seen:
        return (
            f"{text}; unchanged since. Read its p values as exploratory where those runs had been looked at."
        )
    return f"{text}: primary metric, margin, seeds, arms, cells and stopping rule; unchanged since."


def failure(entry: Mapping[str, Any]) -> str:
    """One failed run in a sentence."""
    known = [str(entry[name]) for name in ("cell", "arm") if entry.get(name)]
    known += [f"seed {entry['seed']}"] if entry.get("seed") is not None else []
    name = ", ".join(known) or str(entry.get("run", "a run"))
    step = f" at step {entry['step']}" if entry.get("step") is not None else ""
    reason = f" ({entry['reason']})" if entry.get("reason") else ""
    return f"{name} {entry.get('status', 'failed')}{step}{reason}"


def alerts(facts: ReportData) -> list[str]:
    """Failed runs, then every reason to read a primary comparison with care."""
    found = [failure(entry) for entry in facts.failures]
    several = [
        row for row in facts.primary if len(facts.cells) > 1 and row.word in ("unstable", "no-verdict")
    ]
    found += [f"{row.arm} on {row.cell}: {comparison(row)}" for row in several]
    found += [
        f"{arm} on {cell}: {about['search']['reason']} (learning rate {about['search']['chosen']:g})"
        for cell in facts.cells
        for arm in facts.arms
        if (about := facts.about(cell, arm)).get("search") and about["search"]["reason"] != BEST
    ]
    return found + [f"{row.arm} on {row.cell}: {flag}" for row in facts.primary for flag in row.flags or ()]


def proof(about: Mapping[str, Any]) -> str:
    """The largest figure of an arm's proofs before training, or why there is none."""
    known = about.get("proof") or {}
    if known.get("starts_as_stock") is False:
        return "not stock, by design"
    return fmt.small(known.get("max_difference"))


def sites(about: Mapping[str, Any], manifests: Sequence[Mapping[str, Any]]) -> str:
    """Attention modules reached, of those expected where a manifest says so."""
    reached = (about.get("proof") or {}).get("sites")
    expected = [m["proof"].get("expected") for m in manifests if m.get("proof")]
    return f"{fmt.count(reached)} of {fmt.count(expected[0])}" if expected else fmt.count(reached)


def _dropout_paired(facts: ReportData) -> bool:
    """Whether no run says that its dropout masks could not be those of its pair."""
    return all(run.manifest.get("dropout_paired", True) for run in facts.runs.values())


def _range(row: Row) -> str:
    if not row.ci95 or not all(map(fmt.known, row.ci95)):
        return "unknown"
    return f"{fmt.signed(row.ci95[0], row.places)} to {fmt.signed(row.ci95[1], row.places)}"


def _ratio(row: Row) -> str:
    """On a log scale, the arm's score over the baseline's."""
    if not fmt.known(row.ratio):
        return ""
    places = row.places + 2  # a difference of 1 is a ratio of 1.01
    low, high = (fmt.number(bound, places) for bound in row.ratio_ci95)
    return f"; ratio {fmt.number(row.ratio, places)}, {low} to {high}"


def _margin(row: Row) -> str:
    return f"{row.margin:g}" if fmt.known(row.margin) else "the margin"


def _cell(facts: ReportData, cell: str) -> str:
    row = next(row for row in (*facts.primary, *facts.rows) if row.cell == cell)
    size = f"{fmt.count(row.n_examples)} {row.split or 'test'} examples"
    return f"{row.model} on {row.task}, {size}, {row.metric}{f' [{row.signature}]' if row.signature else ''}"


def _versions(facts: ReportData) -> str:
    environment = facts.results.get("environment") or {}
    packages = environment.get("versions") or environment
    named = [f"{name} {packages[name]}" for name in ("attnlab", "torch", "transformers") if name in packages]
    return f"Software: {', '.join(named)}." if named else ""


def cut(facts: ReportData) -> Iterator[str]:
    """What of each cell's data was cut to fit the model, a sentence per split; the same in every arm."""
    for cell in facts.cells:
        manifests = [run.manifest for arm in facts.arms for run in facts.runs_of(cell, arm) if run.manifest]
        counts = manifests[0].get("data", {}).get("counts", {}) if manifests else {}
        for split, found in counts.items():
            said = describe_cuts(found)
            if said:
                yield f"{cell}, {split}{said.replace(';', ':', 1)}."
