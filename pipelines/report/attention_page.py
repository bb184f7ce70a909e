"""The page and the picture of `attnlab show`: the attention of one example."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pipelines.report import templating
from pipelines.report.figures import attention, palette
from pipelines.report.figures.attention import SiteMaps


def render(
    title: str, introduction: str, shown: str, prediction: str, sites: Sequence[SiteMaps]
) -> dict[str, str]:
    """Return the texts of the files by their suffix, ".html" and ".svg"; neither needs another file."""
    overview, most = attention.draw(sites), attention.scale(sites)
    pictures = [
        {"name": site.name, "heads": heads}
        for site in sites
        if all(heads := [attention.labelled(site, head, most) for head in range(_heads(site))])
    ]
    page = templating.html().get_template("attention.html").render(
        title=title,
        introduction=introduction,
        input=shown,
        prediction=prediction,
        overview=overview,
        sites=pictures,
        figure_style=Markup(palette.style()),
    )  # fmt: skip
    return {".html": page, ".svg": palette.standalone(overview)}


def _heads(site: SiteMaps) -> int:
    return len(next(iter(site.weights.values())))
