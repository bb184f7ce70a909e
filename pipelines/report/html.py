"""report.html: one page that needs neither network nor script, from the verdicts to the last run folder."""

from __future__ import annotations

from html import escape

from pipelines.report import format as fmt
from pipelines.report import sentences
from pipelines.report.data import ReportData
from pipelines.report.figures import palette
from pipelines.report.sections import SECTIONS
from pipelines.report.templating import TEMPLATES

_CSS = TEMPLATES / "page.css"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render(facts: ReportData) -> str:
    """The whole page. Sections without anything to show are left out, and so are their links."""
    drawn = [(anchor, title, section(facts)) for anchor, title, section in SECTIONS]
    drawn = [(anchor, title, body) for anchor, title, body in drawn if body]
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in drawn)
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">',
            _head(facts),
            '<body><a class="skip" href="#verdicts">Skip to the verdicts</a>',
            f'<header><p class="kicker">Attention ablation</p><h1>{escape(facts.title)}</h1>',
            f'<p class="lead">{escape(sentences.lead(facts))}</p>',
            f'<nav aria-label="Sections">{links}</nav></header>',
            f"<main>{''.join(_section(*part) for part in drawn)}</main>",
            _footer(facts),
            "</body></html>\n",
        )
    )


def _head(facts: ReportData) -> str:
    style = palette.style() + _CSS.read_text(encoding="utf-8")
    return (
        '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="color-scheme" content="light dark">'
        f'<title>{escape(facts.title)}</title><link rel="icon" href="data:,"><style>{style}</style></head>'
    )


def _section(anchor: str, title: str, body: str) -> str:
    name = f"{anchor}-title"
    return f'<section id="{anchor}" aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{body}</section>\n'


def _footer(facts: ReportData) -> str:
    files = ("results.json", "report.md", "report.tex", "forest.svg")
    links = ", ".join(f'<a href="{name}">{name}</a>' for name in files)
    runs = fmt.plural(len(facts.runs), "run")
    return (
        f"<footer><p>Written by attnlab from the stored statistics of {runs}; no model was needed. "
        f"The same facts: {links}.</p></footer>"
    )
