"""A finished run as a repository: its model at the root, its portable record in `run/`, its card."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

from pipelines.errors import UserError
from pipelines.hub import contents
from pipelines.hub.fetch import RUN
from pipelines.publish import card, portable, staging
from pipelines.publish.loading_code import ways
from pipelines.publish.portable import Manifest
from pipelines.publish.staging import About, Built, PushRequest, Staged
from pipelines.registry import catalog
from pipelines.runs import intact
from pipelines.storage import atomic
from pipelines.storage.run_folder import MANIFEST, RunFolder


class CardBasis(TypedDict):
    """The fields of a card that are known before anything is trained."""

    repo: str
    branch: str
    config: Mapping[str, Any]
    head: str
    base_model: str | None
    license: str | None
    data_license: str | None


def finished(path: Path) -> tuple[RunFolder, Manifest]:
    """Return a run that has finished, and its manifest; every file of it is as the run wrote it.

    Raises:
        UserError: the folder holds no run that has ended, or one that diverged, or a file has changed.
    """
    run = RunFolder(path)
    manifest = portable.manifest_of(run)
    if manifest["status"] != "finished":
        raise UserError(str(path), f"this run has no model to push: it {manifest['status']}")
    intact.require(run, manifest)
    return run, manifest


def stage(run: RunFolder, request: PushRequest, base_license: str | None) -> Staged:
    """Return the staged folder of a run; see `staging.stage`."""

    def build(folder: Path) -> Built:
        return _build(run, request, base_license, folder)

    return staging.stage(run.path, request, state_of(run, base_license), build)


def state_of(run: RunFolder, base_license: str | None) -> list[str | None]:
    """Return what the content of a staged folder follows from, besides the request."""
    return [atomic.sha256_of(run.path / MANIFEST), base_license]


def _build(run: RunFolder, request: PushRequest, base_license: str | None, folder: Path) -> Built:
    from pipelines.publish import load_check, model_files, scores

    manifest = portable.manifest_of(run)
    config = manifest["config"]
    model = model_files.write(run.model, folder)
    portable.copy_run(run, folder / RUN, portable.portable_names([config]))
    loader = model_files.auto_class(folder, _stock_class(config))
    differences = load_check.check_loading(folder, ways(model.kind, loader, str(folder), None))
    figures = scores.figures(run.path, manifest["primary"], folder)
    about: About = {
        "kind": model.kind,
        "loader": loader,
        "attnlab": version("attnlab"),
        "proof": differences,
    }
    tag = contents.write(folder, about)
    data = card.CardData(
        **card_basis(request, config),
        base_revision=base_revision(manifest),
        base_license=base_license,
        kind=model.kind,
        note=model.note,
        ways=ways(model.kind, loader, request.repo, tag),
        differences=differences,
        scores=scores.scores(run.path),
        comparisons=list(scores.comparisons(run.path)),
        manifest=manifest,
        figures=figures,
    )
    atomic.write_bytes(folder / contents.CARD, card.render(data).encode())
    return {"tag": tag, **about}


def card_before(request: PushRequest, config: Mapping[str, Any]) -> str:
    """Return the card of a run that is not trained yet, so that its metadata can be checked."""
    return card.render(card.CardData(**card_basis(request, config)))


def card_basis(request: PushRequest, config: Mapping[str, Any]) -> CardBasis:
    """Return what is known for the card of a run before anything is trained."""
    return {
        "repo": request.repo,
        "branch": request.revision,
        "config": portable.without_paths(config),
        "head": head_of(config),
        "base_model": base_model(config),
        "license": request.license,
        "data_license": request.data_license,
    }


def head_of(config: Mapping[str, Any]) -> str:
    """Return the head that the run's task needs on its model."""
    task = catalog.find(catalog.TASK, config["task"]["name"])
    assert task is not None, config["task"]["name"]  # the configuration was checked
    return task.attributes["head"]


def base_model(config: Mapping[str, Any]) -> str | None:
    """Return the Hub id of the model that the run started from; None for a folder or a model from scratch."""
    name = config["model"]["name"]
    if name is None or Path(name).is_absolute():
        return None
    return name.removeprefix("hub:").partition("@")[0]


def base_revision(manifest: Manifest) -> str | None:
    """Return the commit of the base model that a run started from, if it was one of the Hub."""
    pinned = (manifest["config"]["model"]["name"] or "").partition("@")[2]
    return pinned or manifest.get("model_commit") or manifest["config"]["model"]["revision"]


def _stock_class(config: Mapping[str, Any]) -> str:
    """Return the class of transformers that loads the stock model of a run."""
    from pipelines.models.build import MODEL_CLASSES, OWN_CLASSES

    name = MODEL_CLASSES[head_of(config), config["model"]["family"]]
    return "AutoModelForSeq2SeqLM" if name in OWN_CLASSES else name  # an encoder and its copy
