"""Refuse what is no finished run with a model, without a library that could load one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.hub import address
from pipelines.storage.run_folder import RunFolder, holds_model


def require_finished(text: str) -> None:
    """Refuse the folder of a run that cannot predict; an address on the Hub is looked at when it is fetched.

    A command asks this before it imports torch, so that a mistake is answered at once.

    Raises:
        UserError: as `finished_manifest`.
    """
    if not address.is_address(text):
        finished_manifest(RunFolder(Path(text)))


def finished_manifest(run: RunFolder) -> dict[str, Any]:
    """Return the manifest of a finished run with its model; its files are not verified.

    Raises:
        UserError: there is no such run, it failed, or its model was not kept.
    """
    where, manifest = str(run.path), run.manifest()
    if manifest is None:
        what = "is a file, not a folder" if run.path.is_file() else "there is no such folder"
        if run.path.is_dir():
            what = "this run is not finished: it has no manifest.json"
        raise UserError(where, what, accepted="name the folder of a finished run (attnlab ls runs)")
    if manifest["status"] != "finished":
        raise UserError(where, f"this run has no model to predict with: it {manifest['status']}")
    if not holds_model(run.model):
        fix = "train it on its own with attnlab train, or keep it with keep: model in the ablation"
        raise UserError(where, "the model of this run was not kept", accepted=fix)
    return manifest
