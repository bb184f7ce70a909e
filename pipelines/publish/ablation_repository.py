"""A whole ablation as one repository: its report on main, the model of every arm on a branch of its own.

One repository and not a collection of many: one name and one commit pin everything, `hub:ORG/NAME` is all
that `verify` and `reproduce` need, and no right beyond writing to one repository is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.ablation import results
from pipelines.ablation.best_seed import best_seeds
from pipelines.ablation.folder import StoredAblation, open_ablation
from pipelines.config.load import RunConfig
from pipelines.errors import UserError
from pipelines.hub import contents
from pipelines.hub.fetch import ABLATION
from pipelines.hub.worker import ask
from pipelines.models import saving
from pipelines.publish import ablation_card, portable, run_repository, staging
from pipelines.publish.ablation_card import Branch
from pipelines.publish.send import only_push, preflight_of, show, upload
from pipelines.publish.staging import PushRequest, Staged
from pipelines.storage import atomic
from pipelines.storage.names import ABLATION as ABLATION_YAML
from pipelines.storage.names import CELLS, FAILURE, REGISTRATION, RESULTS, RUNS, SEARCH
from pipelines.storage.run_folder import RunFolder

COPIED = (RUNS, SEARCH, REGISTRATION)


def push_ablation(path: Path, wanted: PushRequest, *, dry_run: bool) -> None:
    """Push the models that the ablation kept, each to its branch, and then the report that names them."""
    if wanted.revision != "main":
        raise UserError("--revision", "an ablation has its own branches", wanted.revision, "leave it out")
    if not (path / RESULTS).exists():
        raise UserError(str(path), f"has no {RESULTS} yet", accepted="let attnlab ablate finish it first")
    stored = open_ablation(path)
    known = {} if dry_run else {name: _asked(wanted, cell) for name, cell in stored.config.cells.items()}
    send = (lambda staged, *_: show(staged)) if dry_run else upload
    models: list[tuple[Branch, Staged]] = []
    with only_push(path):
        for branch in branches(stored):
            there = replace(wanted, revision=branch.name)
            license = known.get(branch.cell.cell, {}).get("base_license")
            staged = run_repository.stage(RunFolder(branch.cell.folder), there, license)
            models.append((branch, send(staged, there, f"{branch.cell.label}, by attnlab")))
        send(stage(stored, models, wanted), wanted, f"{path.resolve().name}, by attnlab")


def _asked(wanted: PushRequest, cell: RunConfig) -> dict[str, Any]:
    """What the Hub says before the models of a cell are pushed."""
    return ask("preflight", preflight_of(wanted, cell.to_dict()))


def branches(stored: StoredAblation) -> Iterator[Branch]:
    """A branch for every cell and arm of which a model was kept."""
    kept = [cell for cell in stored.cells if _has_model(RunFolder(cell.folder))]
    alone = len(stored.config.cells) == 1
    for (cell, arm), chosen in best_seeds(kept).items():
        yield Branch(arm if alone else f"{cell}--{arm}", chosen)


def _has_model(run: RunFolder) -> bool:
    return run.manifest() is not None and saving.is_there(run.model)


def stage(stored: StoredAblation, models: list[tuple[Branch, Staged]], wanted: PushRequest) -> Staged:
    """The staged folder of the report: everything that `verify` and `reproduce` read, and the card."""

    def build(folder: Path) -> dict[str, Any]:
        records(stored, folder)
        about = {"kind": ABLATION, "attnlab": version("attnlab"), "proof": {}}
        about["models"] = {branch.name: staged.record["tag"] for branch, staged in models}
        tag = contents.write(folder, about)
        text = ablation_card.render(stored, folder, models, wanted)
        atomic.write_bytes(folder / contents.CARD, text.encode())
        return {"tag": tag, **about}

    state = hashlib.sha256((stored.folder / RESULTS).read_bytes())
    state.update("".join(staged.record["tag"] for _, staged in models).encode())
    return staging.stage(stored.folder, wanted, state.hexdigest(), build)


def records(stored: StoredAblation, folder: Path, name: str = ABLATION) -> None:
    """The portable records of all runs, and the report written again from them: `verify` finds them agree.

    They are `folder`/cells and `folder`/`name`; a run that another ablation left there is taken as it is.
    """
    runs = {cell.folder: RunFolder(cell.folder) for cell in (*stored.cells, *stored.tries)}
    over = {path: one for path, one in runs.items() if one.manifest() is not None}
    names = portable.names_of([*(one.manifest()["config"] for one in over.values()), *_cell_configs(stored)])
    for path, one in over.items():
        if not (folder / CELLS / path.name).exists():
            portable.copy_run(one, folder / CELLS / path.name, names)
    for path in runs.keys() - over.keys():
        if (path / FAILURE).exists():
            text = portable.renamed((path / FAILURE).read_text(encoding="utf-8"), names)
            (folder / CELLS / path.name).mkdir(parents=True)
            atomic.write_bytes(folder / CELLS / path.name / FAILURE, text.encode())
    target = folder / name
    target.mkdir()
    for copied in COPIED:
        if (stored.folder / copied).exists():
            atomic.write_bytes(target / copied, (stored.folder / copied).read_bytes())
    stated = portable.renamed(stored.config.to_dict(), names)
    atomic.write_yaml(target / ABLATION_YAML, stated)
    results.write(results.results_of([results.ended_ablation(target)], target), target)


def _cell_configs(stored: StoredAblation) -> list[dict[str, Any]]:
    return [config.to_dict() for config in stored.config.cells.values()]
