"""A finished run as a repository: its model at the root, its portable record in `run/`, its card."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.hub import contents
from pipelines.hub.fetch import RUN
from pipelines.publish import card, portable, staging
from pipelines.publish.loading_code import ways
from pipelines.publish.staging import PushRequest, Staged
from pipelines.registry import catalog
from pipelines.storage import atomic
from pipelines.storage.run_folder import MANIFEST, RunFolder


def finished(path: Path) -> RunFolder:
    """The folder of a run that has ended well.

    Raises:
        UserError: there is none.
    """
    run = RunFolder(path)
    manifest = run.manifest()
    if manifest is None:
        raise UserError(
            str(path), "is neither a finished run nor an ablation", accepted="see attnlab ls runs"
        )
    if manifest["status"] != "finished":
        raise UserError(str(path), f"this run has no model to push: it {manifest['status']}")
    return run


def stage(run: RunFolder, wanted: PushRequest, base_license: str | None) -> Staged:
    """The staged folder of a run; see `staging.stage`."""

    def build(folder: Path) -> dict[str, Any]:
        return _build(run, wanted, base_license, folder)

    return staging.stage(run.path, wanted, state_of(run, base_license), build)


def state_of(run: RunFolder, base_license: str | None) -> list[str | None]:
    """What the staged folder of a run follows from, besides what the user asked for."""
    return [atomic.sha256_of(run.path / MANIFEST), base_license]


def _build(run: RunFolder, wanted: PushRequest, base_license: str | None, folder: Path) -> dict[str, Any]:
    from pipelines.publish import model_files, scores
    from pipelines.publish.load_check import prove

    manifest = run.manifest()
    written = model_files.write(run.model, folder)
    portable.copy_run(run, folder / RUN, portable.names_of([manifest["config"]]))
    loader = model_files.auto_class(folder, _stock_class(manifest["config"]))
    proof = prove(folder, ways(written.kind, loader, str(folder), None))
    figures = scores.figures(run, folder)
    about = {"kind": written.kind, "loader": loader, "attnlab": version("attnlab"), "proof": proof}
    tag = contents.write(folder, about)
    known = card.CardData(
        **asked(wanted, manifest["config"]),
        base_revision=base_revision(manifest),
        base_license=base_license,
        kind=written.kind,
        note=written.note,
        ways=ways(written.kind, loader, wanted.repo, tag),
        proof=proof,
        scores=scores.scores(run),
        comparisons=list(scores.comparisons(run)),
        manifest=manifest,
        figures=figures,
    )
    atomic.write_bytes(folder / contents.CARD, card.render(known).encode())
    return {"tag": tag, **about}


def card_before(wanted: PushRequest, config: dict[str, Any]) -> str:
    """The card of a run that is not trained yet: its metadata can be checked already."""
    return card.render(card.CardData(**asked(wanted, config)))


def asked(wanted: PushRequest, config: dict[str, Any]) -> dict[str, Any]:
    """What a card says of a run before anything is trained."""
    return {
        "repo": wanted.repo,
        "branch": wanted.revision,
        "config": portable.without_paths(config),
        "head": head_of(config),
        "base_model": base_model(config),
        "license": wanted.license,
        "data_license": wanted.data_license,
    }


def head_of(config: dict[str, Any]) -> str:
    """What the run's task needs on top of a model."""
    return catalog.find(catalog.TASK, config["task"]["name"]).attributes["head"]


def base_model(config: dict[str, Any]) -> str | None:
    """The id on the Hub of what the run began with; None for a folder or a model from scratch."""
    name = config["model"]["name"]
    if name is None or Path(name).is_absolute():
        return None
    return name.removeprefix("hub:").partition("@")[0]


def base_revision(manifest: dict[str, Any]) -> str | None:
    """The commit of the base model that a run began with, where it was one of the Hub."""
    pinned = (manifest["config"]["model"]["name"] or "").partition("@")[2]
    return pinned or manifest.get("model_commit") or manifest["config"]["model"]["revision"]


def _stock_class(config: dict[str, Any]) -> str:
    from pipelines.models.build import MODEL_CLASSES, OWN_CLASSES

    name = MODEL_CLASSES[head_of(config), config["model"]["family"]]
    return "AutoModelForSeq2SeqLM" if name in OWN_CLASSES else name  # an encoder and its copy
