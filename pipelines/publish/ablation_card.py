"""README.md of a pushed ablation: its report, and how to load, check and repeat what it is about."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipelines.ablation.cell import Cell
from pipelines.ablation.folder import StoredAblation
from pipelines.hub.fetch import ABLATION
from pipelines.publish.card import checked, explained
from pipelines.publish.loading_code import ways
from pipelines.publish.staging import PushRequest, Staged
from pipelines.report import data, markdown
from pipelines.report.templating import escape_markdown as escape
from pipelines.storage.names import RESULTS

if TYPE_CHECKING:
    pass

Models = Sequence[tuple["Branch", Staged]]


def render(stored: StoredAblation, folder: Path, models: Models, wanted: PushRequest) -> str:
    """The whole card; `folder` is the staged one, whose report is part of it.

    Raises:
        UserError: the metadata is not what the Hub takes.
    """
    results = json.loads((folder / ABLATION / RESULTS).read_text(encoding="utf-8"))
    known = data.load({**results, "title": wanted.repo.split("/")[1]}, folder / ABLATION)
    head = yaml.safe_dump(_metadata(stored, wanted), sort_keys=False, allow_unicode=True)
    parts = [_from_root(markdown.render(known)).rstrip(), *_models(models, wanted), *_arms(stored)]
    parts += [*_origin(stored, models, wanted), *_again(stored, folder, wanted)]
    return checked(f"---\n{head}---\n\n" + "\n\n".join(parts) + "\n", wanted.repo)


def _metadata(stored: StoredAblation, wanted: PushRequest) -> dict[str, Any]:
    variants = [spec.name for arm in stored.config.arms.values() for spec in arm.attention]
    datasets = [cell.data.name for cell in stored.config.cells.values() if cell.data.name]
    known = {
        "library_name": "transformers",
        "license": wanted.license,
        "tags": list(dict.fromkeys(["attnlab", "attention", "ablation", *variants])),
        "datasets": list(dict.fromkeys(datasets)) or None,
    }
    return {name: value for name, value in known.items() if value is not None}


def _from_root(report: str) -> str:
    """The report with links that start at the root of the repository."""
    for here, there in (("](forest.svg)", f"]({ABLATION}/forest.svg)"), ("](../cells/", "](cells/")):
        report = report.replace(here, there)
    return report.replace("`report.html`", f"`{ABLATION}/report.html`").replace(
        "`results.json`", f"`{ABLATION}/results.json`"
    )


def _models(models: Models, wanted: PushRequest) -> Iterator[str]:
    if not models:
        return
    yield "## Models"
    lines = ["| Branch | Run | Kind | Pinned by |", "|:--|:--|:--|:--|"]
    for branch, staged in models:
        record = staged.record
        cells = (f"`{branch.name}`", escape(branch.cell.label), record["kind"], f"`{record['tag']}`")
        lines.append(f"| {' | '.join(cells)} |")
    yield "\n".join(lines)
    branch, staged = models[-1]
    yield f"Each branch has a card of its own with the lines that load it. For `{branch.name}`:"
    for way in ways(staged.record["kind"], staged.record["loader"], wanted.repo, staged.record["tag"]):
        yield f"{way.needs}\n\n```python\n{way.code}```"


def _arms(stored: StoredAblation) -> Iterator[str]:
    names = dict.fromkeys(spec.name for arm in stored.config.arms.values() for spec in arm.attention)
    if names:
        yield "## The attention"
    for name in names:
        equation, *rest = explained(name)
        yield f"**{escape(name)}**\n\n```text\n{equation}\n```"
        yield from (escape(paragraph) for paragraph in rest)


def _origin(stored: StoredAblation, models: Models, wanted: PushRequest) -> Iterator[str]:
    generated = all(cell.data.generated for cell in stored.config.cells.values())
    own = "made by attnlab, free to use" if generated else "not stated"
    license = wanted.license or ("as their cards say" if models else "none are here")
    data = f"{wanted.data_license or own}. No text of it is here: statistics and hashes only"
    yield f"## Licences\n\n- Models: {license}.\n- Data: {data}."


def _again(stored: StoredAblation, folder: Path, wanted: PushRequest) -> Iterator[str]:
    yield "## Check it, repeat it"
    yield (
        f"```sh\nattnlab verify hub:{wanted.repo}      # every number again, from what is stored here\n"
        f"attnlab reproduce hub:{wanted.repo}   # every run again, and what came out different\n```"
    )
    text = (folder / ABLATION / "ablation.yaml").read_text(encoding="utf-8")
    yield f"<details><summary>The ablation</summary>\n\n```yaml\n{text}```\n\n</details>"


@dataclass(frozen=True)
class Branch:
    """The model that stands for an arm of a cell: of its best seed by validation, among those kept."""

    name: str
    cell: Cell
