"""The text of docs/papers.md, from the files of configs/papers and the results that are kept."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from scripts.md_tables import table
from scripts.paper_pages.results import REPOSITORY, kept, papers

PAGE = REPOSITORY / "docs" / "papers.md"
HEAD = """# Published claims, asked again

Each file of `configs/papers` is the ablation of one paper: it names the claim, the figure behind it, the
paper's recipe, and what it does not repeat. As it stands it trains small models in minutes on two cores;
with `scale=paper` the same question is asked near the size of the paper, which should have a GPU and was
not run.

    attnlab ls papers
    attnlab ablate configs/papers/value-residual.yaml --out runs/value-residual
    attnlab ablate configs/papers/value-residual.yaml scale=paper --out runs/value-residual-large

**A small scale decides nothing about a large one.** What these runs can say: whether an effect is there
already in a model of under a million parameters (MiniLM: 22 million) after some eighty steps, with an
interval. "Inconclusive", "insensitive" and "equivalent" are kept as they came. The difference is in
points of the metric, positive where the arm is better (perplexity: hundredths of its logarithm, about per
cent).

This page is written by `scripts/papers-page RUNS` from `docs/results/papers`.
"""


def markdown() -> str:
    """Return the whole page."""
    found = papers()
    return "\n".join(
        [
            HEAD,
            table(COLUMNS, _rows(found)),
            "",
            *(part for name in found for part in _section(name, found[name])),
        ]
    )


COLUMNS = ("paper", "the paper says", "arm", "here: difference, 95 % interval", "verdict")


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, values in found.items():
        paper, results = values["paper"], kept(name)
        says = (f"[{paper['title'].partition(':')[0]}](#{name})", paper["number"])
        for row in results["comparisons"] if results else []:
            yield (*says, row["arm"], _difference(row), row["verdict"])
        if results is None:
            yield (*says, ", ".join(values["arms"]), "not run", "–")


def _section(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    paper, results = values["paper"], kept(name)
    yield f'<a id="{name}"></a>\n\n## {paper["title"]}\n'
    yield f"{paper['source']}; `configs/papers/{name}.yaml`\n"
    yield f"- The paper says: {paper['claim']}"
    yield f"- Its figure: {paper['number']}"
    yield f"- Its recipe: {paper['recipe']}"
    yield f"- What is not comparable: {paper['differs']}"
    if results is None:
        yield "- Here: not run.\n"
        return
    for row in results["comparisons"]:
        yield f"- Here, `{row['arm']}`: {_outcome(row)}"
    yield ""


def _outcome(row: Mapping[str, Any]) -> str:
    seeds, metric = len(row["arm_scores"]), row["metric"]
    scores = (statistics.mean(row[side]) for side in ("baseline_scores", "arm_scores"))
    before, after = (f"{score:.2f}" for score in scores)
    reason = f" ({row['reason']})" if row["reason"] else ""
    over = f"over {seeds} seeds and {row['n_examples']:,} examples"
    return (
        f"**{row['verdict']}**{reason}; {metric} {before} for stock, {after} for the arm, "
        f"difference {_difference(row)} {over}; a difference of {row['mde80']:.2f} would be found in four "
        "of five studies like this."
    )


def _difference(row: Mapping[str, Any]) -> str:
    low, high = row["ci95"]
    return f"{row['difference']:+.2f} [{low:+.2f}, {high:+.2f}]"
