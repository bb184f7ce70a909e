"""An ablation as one repository: its report on main, the model of every arm on a branch of its own.

It is one repository and not a collection of many: one name and one commit pin everything, `verify` and
`reproduce` need only `hub:ORG/NAME`, and the token needs the right to write to only one repository.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from pipelines.ablation import results, sides
from pipelines.ablation.best_seed import best_seeds
from pipelines.ablation.folder import StoredAblation, open_ablation
from pipelines.config.load import RunConfig
from pipelines.errors import UserError, raise_all, without_values
from pipelines.hub import contents
from pipelines.hub.fetch import ABLATION
from pipelines.hub.worker import ask
from pipelines.publish import ablation_card, portable, run_repository, staging
from pipelines.publish.ablation_card import Branch, BranchModel
from pipelines.publish.send import only_push, preflight_request, show, upload
from pipelines.publish.staging import About, Built, PushRequest, Staged
from pipelines.runs import intact
from pipelines.storage import atomic, reading
from pipelines.storage.names import ABLATION as ABLATION_YAML
from pipelines.storage.names import ANCHOR, CELLS, FAILURE, REGISTRATION, RESULTS, RUNS, SEARCH, STAMP
from pipelines.storage.run_folder import RunFolder, holds_model

COPIED = (RUNS, SEARCH, REGISTRATION, ANCHOR, STAMP)


def push_ablation(path: Path, request: PushRequest, *, dry_run: bool) -> None:
    """Push the models that the ablation kept, each to its branch, and then the report that names them.

    Raises:
        UserError: a revision is given, the ablation has no results yet, or a run of it is not what its grid
            says.
    """
    if request.revision != "main":
        raise UserError("--revision", "an ablation has its own branches", request.revision, "leave it out")
    _refuse_links(path)
    if results.read_results(path) is None:
        raise UserError(str(path), f"has no {RESULTS} yet", accepted="let attnlab ablate finish it first")
    stored = open_ablation(path)
    sides.require(path, (*stored.tries, *stored.cells))
    for cell in (*stored.cells, *stored.tries):
        run = RunFolder(cell.folder)
        manifest = run.manifest()
        if manifest is not None:
            intact.require(run, manifest)
    cells = {} if dry_run else stored.config.cells
    licenses = {name: _base_license(request, cell) for name, cell in cells.items()}
    models: list[BranchModel] = []
    with only_push(path):
        for branch in branches(stored):
            on_branch = replace(request, revision=branch.name)
            run, license = RunFolder(branch.cell.folder), licenses.get(branch.cell.cell)
            staged = run_repository.stage(run, on_branch, license)
            title = f"{branch.cell.label}, by attnlab"
            models.append((branch, show(staged) if dry_run else upload(staged, on_branch, title)))
        staged = stage(stored, models, request)
        show(staged) if dry_run else upload(staged, request, f"{path.resolve().name}, by attnlab")


def _refuse_links(folder: Path) -> None:
    """Refuse an ablation of which a file is a link: its target may be anything of this machine."""
    places = [folder / name for name in (ABLATION_YAML, RESULTS, *COPIED)]
    places += [run / FAILURE for run in sorted((folder.parent / CELLS).glob("*"))]
    links = [place for place in places if place.is_symlink()]
    raise_all([UserError(str(link), "is a link", accepted="put the file itself there") for link in links])


def _base_license(request: PushRequest, cell: RunConfig) -> str | None:
    """Check what the push of a cell's models will need, and return the licence of their base model."""
    return ask("preflight", preflight_request(request, cell.to_dict()))["base_license"]


def branches(stored: StoredAblation) -> Iterator[Branch]:
    """Yield a branch for every cell and arm of which a model was kept."""
    kept = [cell for cell in stored.cells if _has_model(RunFolder(cell.folder))]
    alone = len(stored.config.cells) == 1
    for (cell, arm), chosen in best_seeds(kept).items():
        yield Branch(arm if alone else f"{cell}--{arm}", chosen)


def _has_model(run: RunFolder) -> bool:
    return run.manifest() is not None and holds_model(run.model)


def stage(stored: StoredAblation, models: Sequence[BranchModel], request: PushRequest) -> Staged:
    """Return the staged folder of the report: everything that `verify` and `reproduce` read, and the card."""

    def build(folder: Path) -> Built:
        records(stored, folder)
        tags = {branch.name: staged.record["tag"] for branch, staged in models}
        about: About = {"kind": ABLATION, "attnlab": version("attnlab"), "proof": {}, "models": tags}
        tag = contents.write(folder, about)
        text = ablation_card.render(stored, folder, models, request)
        atomic.write_bytes(folder / contents.CARD, text.encode())
        return {"tag": tag, **about}

    state = hashlib.sha256((stored.folder / RESULTS).read_bytes())
    state.update("".join(staged.record["tag"] for _, staged in models).encode())
    return staging.stage(stored.folder, request, state.hexdigest(), build)


def records(stored: StoredAblation, folder: Path, name: str = ABLATION) -> None:
    """Write the portable records of all runs, and results computed again from these records.

    The results are computed again so that `verify`, which reads the same records, finds the same numbers.
    The records go to `folder`/cells and the results to `folder`/`name`. A run that is there already, from
    another ablation, is kept.
    """
    runs = {cell.folder: RunFolder(cell.folder) for cell in (*stored.cells, *stored.tries)}
    shows_text = {cell.folder: cell.config["data"]["publish_text"] for cell in (*stored.cells, *stored.tries)}
    ended = {path: run for path, run in runs.items() if run.manifest() is not None}
    configs = [portable.manifest_of(run)["config"] for run in ended.values()]
    names = portable.portable_names([*configs, *(cell.to_dict() for cell in stored.config.cells.values())])
    for path, run in ended.items():
        if not (folder / CELLS / path.name).exists():
            portable.copy_run(run, folder / CELLS / path.name, names)
    for path in runs.keys() - ended.keys():
        if reading.is_there(path / FAILURE):
            shared = reading.text(path / FAILURE, "delete it")
            text = portable.replace_paths(shared if shows_text[path] else without_values(shared), names)
            (folder / CELLS / path.name).mkdir(parents=True)
            atomic.write_bytes(folder / CELLS / path.name / FAILURE, text.encode())
    target = folder / name
    target.mkdir()
    for copied in COPIED:
        if (stored.folder / copied).exists():
            atomic.write_bytes(target / copied, (stored.folder / copied).read_bytes())
    # A storage URL is a place of this user: others neither need to know it nor should look there.
    stated = portable.replace_paths({**stored.config.to_dict(), "store": None}, names)
    atomic.write_yaml(target / ABLATION_YAML, stated)
    computed = results.results_of([results.ended_ablation(target)], target)
    looked = (results.read_results(stored.folder) or {}).get("ledger")
    results.write({**computed, **({"ledger": looked} if looked is not None else {})}, target)
