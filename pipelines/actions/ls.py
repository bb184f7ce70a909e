"""`attnlab ls`: list the variants, tasks, metrics, corpora, configurations, papers or runs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from pipelines.actions import presets
from pipelines.config import yaml_source
from pipelines.config.describe import attention
from pipelines.config.run import RunConfig
from pipelines.errors import UserError
from pipelines.registry import catalog
from pipelines.registry.catalog import CORPUS, METRIC, TASK, VARIANT, Entry, EntryKind
from pipelines.shown import printable
from pipelines.storage.names import MANIFEST
from pipelines.terminal import Terminal

PLAIN_WIDTH = 140  # columns if the output is not a terminal
Row = Sequence[str]


def ls_command(what: str, folder: str | None = None) -> None:
    """Print one table.

    Args:
        what: a key of `LISTINGS`.
        folder: for configs and runs, the folder to search; None: `runs`, or `configs` and those of attnlab.
    """
    header, rows = LISTINGS[what]
    found = [[printable(text, keep="\n") for text in row] for row in rows(folder)]
    table = Table(*header, header_style="bold", box=None, pad_edge=False)
    table.columns[0].no_wrap = True  # names are copied from here, so they are never cut
    table.columns[0].min_width = max((cell_len(row[0]) for row in found), default=0)
    for row in found:
        table.add_row(*map(Text, row))
    terminal = Terminal(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    terminal.print(table if found else f"no {what} here")


def _entries(kind: EntryKind, row: Callable[[Entry], Row]) -> Iterator[Row]:
    for name in catalog.names(kind):
        try:
            entry = catalog.find(kind, name)
            if entry is not None:
                yield row(entry)
        except UserError as error:  # one broken file must not hide the others
            yield name, f"broken: {error.sentence()}"


def _options(entry: Entry) -> str:
    return "\n".join(map(str, entry.options))


def _variants(_folder: str | None) -> Iterator[Row]:
    def row(entry: Entry) -> Row:
        foldable = "yes" if entry.is_foldable else "no"
        return entry.name, entry.meaning, _options(entry), entry.path, entry.starts_as_stock, foldable

    return _entries(VARIANT, row)


def _tasks(_folder: str | None) -> Iterator[Row]:
    def row(entry: Entry) -> Row:
        metrics = entry.attributes.get("metric_names") or [str(entry.attributes.get("primary", ""))]
        columns = entry.attributes.get("columns") or {}
        return entry.name, entry.meaning, _options(entry), ", ".join(columns), ", ".join(metrics)

    return _entries(TASK, row)


def _metrics(_folder: str | None) -> Iterator[Row]:
    return _entries(METRIC, lambda entry: (entry.name, entry.meaning, _options(entry)))


def _corpora(_folder: str | None) -> Iterator[Row]:
    return _entries(CORPUS, lambda entry: (entry.name, entry.meaning, _options(entry)))


def _configs(folder: str | None) -> Iterator[Row]:
    own = Path(folder or "configs")
    if folder is not None and not own.is_dir():
        raise UserError(folder, "is not a folder", accepted="give one: attnlab ls configs FOLDER")
    files = {file: str(file) for file in sorted(own.rglob("*.yaml"))}
    if folder is None and own.resolve() != presets.PRESETS.resolve():  # under the names of `init --from`
        files |= {file: name for name, file in presets.names().items()}
    for file, name in files.items():
        try:
            kind = _kind(yaml_source.read(file).value)
        except UserError as error:
            kind = f"broken: {error.what}"
        yield name, kind, _first_comment(file)


def _papers(_folder: str | None) -> Iterator[Row]:
    for name, file in presets.names().items():
        value = yaml_source.read(file).value
        paper = value.get("paper") if isinstance(value, dict) else None
        if paper:
            yield name, f"{paper['title']} ({paper['source']})", paper["claim"], ", ".join(value["arms"])


def _kind(value: object) -> str:
    keys = set(value) if isinstance(value, dict) else set()
    if "arms" in keys:
        return "ablation"
    return "run" if keys & RunConfig.model_fields.keys() else "other"


def _first_comment(file: Path) -> str:
    """Return the first sentence of the comment at the top of a file, without lines for editors."""
    comment: list[str] = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.lstrip("# ").strip()
        if not line.startswith("#") or (comment and not text):
            break
        if not text.startswith("yaml-language-server"):
            comment += [text] * bool(text)
    return re.split(r"(?<=\S[.?]) (?=[A-Z])", " ".join(comment))[0]


def _runs(folder: str | None) -> Iterator[Row]:
    root = Path(folder or "runs")
    if not root.is_dir():
        raise UserError(str(root), "is not a folder", accepted="give one: attnlab ls runs FOLDER")
    for file in sorted(root.rglob(MANIFEST)):
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            config = manifest["config"]
            scores = [
                f"{split} {name} {value:.2f}"
                for split, found in manifest["scores"].items()
                for name, value in found.items()
                if name == manifest["primary"]
            ]
            arm = attention(config["attention"])
            model = Path(manifest["model_name"]).name
            yield (
                str(file.parent),
                manifest["status"],
                manifest["task"],
                model,
                arm,
                str(config["seed"]),
                ", ".join(scores),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            yield str(file.parent), f"unreadable {MANIFEST}", "", "", "", "", ""


LISTINGS = {
    "variants": (("variant", "meaning", "options", "runs on", "starts as stock", "foldable"), _variants),
    "tasks": (("task", "meaning", "options", "columns", "metrics"), _tasks),
    "metrics": (("metric", "meaning", "options"), _metrics),
    "corpora": (("corpus", "meaning", "options"), _corpora),
    "configs": (("file", "kind", "meaning"), _configs),
    "papers": (("file", "paper", "claim", "arms"), _papers),
    "runs": (("folder", "status", "task", "model", "attention", "seed", "score"), _runs),
}
