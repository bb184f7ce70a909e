"""report.html: one page that needs neither network nor script, from the verdicts to the last run folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jinja2 import Environment
from markupsafe import Markup

from pipelines.report import headline, recipe, sentences, templating
from pipelines.report.data import ReportData
from pipelines.report.figures import palette, svg
from pipelines.report.sections import MOST_ARMS, SECTIONS


@dataclass(frozen=True)
class RenderedSection:
    """A section that has something to show."""

    anchor: str
    title: str
    body: Markup
    folded: bool  # shown after a click


def render(facts: ReportData) -> str:
    """Return the whole page. Sections with nothing to show are left out, and so are their links."""
    environment = _environment()
    sections = []
    for section in SECTIONS:
        values = section.values(facts)
        if values is not None:
            body = environment.get_template(f"sections/{section.anchor}.html").render(values, facts=facts)
            folded = section.by_arm and len(facts.arms) > MOST_ARMS
            sections.append(RenderedSection(section.anchor, section.title, Markup(body), folded))
    return environment.get_template("page.html").render(
        facts=facts,
        kind=recipe.kind(facts).capitalize(),
        headline=headline.sentence(facts),
        introduction=sentences.introduction(facts),
        figure_style=Markup(palette.style()),
        sections=sections,
    )


@cache
def _environment() -> Environment:
    environment = templating.html()
    environment.globals["mark"] = _mark
    return environment


def _mark(place: int) -> Markup:
    """Return the mark of the arm at a place as the content of a picture of 16 by 16."""
    return Markup(svg.mark(8, 8, place))
