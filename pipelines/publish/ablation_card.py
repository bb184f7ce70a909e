"""README.md of a pushed ablation: its report, and how to load, check and repeat its runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.ablation.cell import Cell
from pipelines.ablation.folder import StoredAblation
from pipelines.hub.fetch import ABLATION
from pipelines.publish import metadata, variant_text
from pipelines.publish.loading_code import Way, ways
from pipelines.publish.staging import PushRequest, Staged
from pipelines.report import data as report_data
from pipelines.report import markdown, recipe, templating
from pipelines.report.recipe import Kind
from pipelines.storage.names import RESULTS

TAGS: dict[Kind, list[str]] = {
    "attention ablation": ["attention", "ablation"],
    "model comparison": ["model-comparison"],
    "ablation": ["ablation"],
    "comparison after the fact": ["comparison"],
}


@dataclass(frozen=True)
class Branch:
    """The branch of an arm of a cell: the model of its best seed by validation, of those that were kept."""

    name: str
    cell: Cell


BranchModel = tuple[Branch, Staged]


def render(stored: StoredAblation, folder: Path, models: Sequence[BranchModel], request: PushRequest) -> str:
    """Return the whole card.

    Args:
        folder: the staged folder, whose report becomes part of the card.
        models: the branches that were pushed.

    Raises:
        UserError: the Hub does not take its metadata.
    """
    results = json.loads((folder / ABLATION / RESULTS).read_text(encoding="utf-8"))
    loaded = report_data.load({**results, "title": request.repo.split("/")[1]}, folder / ABLATION)
    names = dict.fromkeys(spec.name for arm in stored.config.arms.values() for spec in arm.attention)
    text = (
        templating.markdown()
        .get_template("ablation_card.md")
        .render(
            metadata=metadata.to_yaml(_metadata(stored, request, [*TAGS[recipe.kind(loaded)], *names])),
            report=_from_root(markdown.render(loaded), request.repo).rstrip(),
            models=models,
            ways=_ways(models[-1][1], request) if models else [],
            variants=[variant_text.describe(name) for name in names],
            generated=all(cell.data.generated for cell in stored.config.cells.values()),
            request=request,
            ablation_yaml=(folder / ABLATION / "ablation.yaml").read_text(encoding="utf-8"),
        )
    )
    return metadata.require_valid(text, request.repo)


def _metadata(stored: StoredAblation, request: PushRequest, tags: Sequence[str]) -> dict[str, object]:
    datasets = [cell.data.name for cell in stored.config.cells.values() if cell.data.name]
    return {
        "library_name": "transformers",
        "license": request.license,
        "tags": list(dict.fromkeys(["attnlab", *tags])),
        "datasets": list(dict.fromkeys(datasets)) or None,
    }


def _ways(staged: Staged, request: PushRequest) -> list[Way]:
    record = staged.record
    return ways(record["kind"], record["loader"], request.repo, record["tag"])


def _from_root(report: str, repo: str) -> str:
    """Return the report with links that start at the root of the repository, and with its address."""
    for link, from_root in (
        ("](forest.svg)", f"]({ABLATION}/forest.svg)"),
        ("](../cells/", "](cells/"),
        (f"attnlab reproduce {ABLATION}", f"attnlab reproduce hub:{templating.escape_markdown(repo)}"),
        ("`report.html`", f"`{ABLATION}/report.html`"),
        ("`results.json`", f"`{ABLATION}/results.json`"),
        ("`results.csv`", f"`{ABLATION}/results.csv`"),
    ):
        report = report.replace(link, from_root)
    return report
