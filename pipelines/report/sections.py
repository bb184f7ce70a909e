"""The sections of the page: each function returns the values of its template, None with nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from pipelines.report import attention, examples, over_cells, recipe, sentences, side_by_side, tables
from pipelines.report.data import ReportData
from pipelines.report.figures import (
    bootstrap,
    cost,
    curves,
    forest,
    heatmap,
    lengths,
    looks,
    seeds,
    slopes,
    variance,
)
from pipelines.report.figures import over_cells as summary_forest
from pipelines.report.rows import notes, seconds

Values = Mapping[str, object]
MOST_ARMS = 12  # with a sentence, a panel and a name in each legend; more are shown as a table, and folded


def verdicts(facts: ReportData) -> Values:
    """Return a sentence per arm for one cell; a matrix of arms and cells for several."""
    several = len(facts.primary) > len(facts.arms) - 1 or len(facts.arms) > MOST_ARMS
    return {
        "matrix": tables.verdicts(facts) if several else None,
        "verdicts": [(arm, sentences.arm(facts, arm)) for arm in facts.arms[1:]],
        "alerts": sentences.alerts(facts),
    }


def differences(facts: ReportData) -> Values | None:
    """Return forest plots for wide and narrow pages, and the meaning of the verdicts in them."""
    if not facts.primary:
        return None
    used = {row.word for row in facts.primary}
    return {
        "wide": forest.draw(facts, forest.WIDE),
        "narrow": forest.draw(facts, forest.NARROW),
        "meanings": [(word, meaning) for word, meaning in sentences.MEANINGS.items() if word in used],
    }


def means_over_cells(facts: ReportData) -> Values | None:
    """Return the forest plot of means over cells, and a sentence for each arm."""
    arms = [one.arm for one in facts.results.summaries or ()]
    found = [(arm, over_cells.sentence(facts, arm).strip()) for arm in arms]
    if not found:
        return None
    told = [f"{arm}: {text[0].lower()}{text[1:]}" for arm, text in found]
    return {"picture": summary_forest.draw(facts), "caption": over_cells.CAPTION, "sentences": told}


def table(facts: ReportData) -> Values:
    """Return the primary rows, and the exploratory ones for a folded table."""
    signatures = dict.fromkeys((row.metric, row.signature) for row in facts.rows if row.signature)
    return {
        "primary": tables.comparisons(facts, primary=True),
        "exploratory": tables.comparisons(facts, primary=False),
        "notes": notes(facts),
        "signatures": list(signatures),
    }


def what_was_run(facts: ReportData) -> Values | None:
    """Return what each arm is, how each cell was trained, and how to do it again."""
    cells = [(cell, terms) for cell in facts.cells if (terms := recipe.terms(facts, cell))]
    if not cells:
        return None
    return {
        "arms": recipe.arms(facts),
        "yaml": recipe.arms_yaml(facts),
        "cells": cells,
        "commands": recipe.commands(facts),
    }


@dataclass(frozen=True)
class SeedFigures:
    """Every seed of a cell."""

    name: str
    slopes: list[Markup]
    strips: Markup


def every_seed(facts: ReportData) -> Values | None:
    """Return the slopes and strips of every seed, cell by cell."""
    drawn = [
        SeedFigures(cell, slopes.draw(facts, rows), seeds.draw(facts, rows))
        for cell in facts.cells
        if (rows := facts.primary_of(cell))
    ]
    cells = [cell for cell in drawn if cell.strips]
    return {"cells": cells} if cells else None


def every_look(facts: ReportData) -> Values | None:
    """Return the intervals of a sequential design, seed by seed."""
    pictures = [picture for row in facts.primary if (picture := looks.draw(facts, row))]
    return {"pictures": pictures} if pictures else None


def learning_curves(facts: ReportData) -> Values | None:
    """Return training losses, validation scores and their differences, cell by cell."""
    cells = [(cell, pictures) for cell, pictures in curves.draw(facts).items() if pictures]
    return {"cells": cells} if cells else None


def attention_maps(facts: ReportData) -> Values | None:
    """Return the heat maps of every cell, and the arms whose runs recorded no diagnostics."""
    maps, missing = [], []
    for cell in facts.cells:
        stats = attention.of_cell(facts, cell)
        missing += [f"{arm} on {cell}" for arm in facts.arms if arm not in stats and facts.runs_of(cell, arm)]
        if stats:
            drawn = heatmap.draw(facts, stats)
            maps += [(f"{cell} · {name}", pictures) for name, pictures in drawn.items() if pictures]
    return {"maps": maps, "missing": missing} if maps or missing else None


def costs(facts: ReportData) -> Values | None:
    """Return a plot of time per step against score for each cell."""
    pictures = [picture for cell in facts.cells if (picture := cost.draw(facts, cell))]
    return {"pictures": pictures} if pictures else None


@dataclass(frozen=True)
class UncertaintyFigures:
    """Where the uncertainty of a cell's differences comes from."""

    name: str
    bars: Markup
    histograms: list[Markup]


def uncertainty(facts: ReportData) -> Values | None:
    """Return shares of variance, and histograms of the resampled differences."""
    drawn = [
        UncertaintyFigures(cell, variance.draw(facts, rows), bootstrap.draw(facts, rows))
        for cell in facts.cells
        if (rows := facts.primary_of(cell))
    ]
    cells = [cell for cell in drawn if cell.bars or cell.histograms]
    return {"cells": cells} if cells else None


def by_example(facts: ReportData) -> Values | None:
    """Return differences by length, and examples: texts only where they may be published, labels always."""
    reader, pictures, comparisons, hidden = examples.Reader(), [], [], []
    may_show = facts.results.publish_text or {}
    for cell in facts.cells:
        found = [one for row in facts.primary_of(cell) if (one := examples.breakdown(row, reader))]
        if picture := lengths.draw(facts, found):
            pictures.append(picture)
        if not may_show.get(cell):
            hidden += [cell] if found else []
            found = [labels for one in found if (labels := one.without_texts())]
        comparisons += [shown for one in found if (shown := side_by_side.show(one)).ranked]
    if not (pictures or comparisons or hidden):
        return None
    return {"pictures": pictures, "comparisons": comparisons, "hidden": hidden}


def arms(facts: ReportData) -> Values | None:
    """Return the table of arms, and what of the data was cut."""
    cells = [] if facts.is_after_the_fact else tables.arms(facts)
    if not cells:
        return None
    return {
        "cells": cells,
        "data_losses": list(sentences.data_losses(facts)),
        "milliseconds": f"{seconds(facts).removesuffix('s')}ms",
    }


def methods(facts: ReportData) -> Values:
    """Return the paragraph for a paper."""
    return {"methods": sentences.methods(facts)}


def registration(facts: ReportData) -> Values:
    """Return what was declared before the first run, and the software and machine."""
    return {"registration": sentences.registration(facts), "environment": tables.environment(facts)}


def runs(facts: ReportData) -> Values | None:
    """Return the table of runs."""
    cells = tables.runs(facts)
    return {"cells": cells} if cells else None


@dataclass(frozen=True)
class PageSection:
    """A part of the page, rendered by the template `sections/<anchor>.html`."""

    anchor: str
    title: str
    values: Callable[[ReportData], Values | None]
    by_arm: bool = False  # it has a picture for every arm, and is folded where there are many


SECTIONS = (
    PageSection("verdicts", "Verdicts", verdicts),
    PageSection("differences", "Differences", differences),
    PageSection("over-cells", "Over cells", means_over_cells),
    PageSection("table", "Table", table),
    PageSection("recipe", "Recipe", what_was_run),
    PageSection("seeds", "Every seed", every_seed, by_arm=True),
    PageSection("looks", "Looks", every_look, by_arm=True),
    PageSection("curves", "Learning curves", learning_curves),
    PageSection("attention", "Attention", attention_maps, by_arm=True),
    PageSection("cost", "Cost", costs),
    PageSection("uncertainty", "Uncertainty", uncertainty, by_arm=True),
    PageSection("examples", "Examples", by_example, by_arm=True),
    PageSection("arms", "Arms", arms),
    PageSection("methods", "Methods", methods),
    PageSection("registration", "Registration", registration),
    PageSection("runs", "Runs", runs),
)
