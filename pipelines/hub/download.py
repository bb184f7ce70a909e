"""From the Hub to a folder on this machine, pinned to one commit, every byte as it was pushed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import IncompleteSnapshotError

from pipelines.errors import RunFailed, UserError
from pipelines.hub import contents
from pipelines.hub.client import Patience, retried


def answer(request: dict[str, Any], patience: Patience) -> dict[str, Any]:
    """Fetch what is not in the cache yet, and check all of it.

    Args:
        request: `repo`; `revision`, a branch, tag or commit.

    Returns:
        `folder`, in the cache of the Hub's client; `commit`, the sha that was meant.

    Raises:
        UserError: attnlab did not push it.
        RunFailed: the Hub stayed unavailable, or sends other bytes than were pushed, twice.
    """
    where = f"hub:{request['repo']}"
    folder = _fetched(request, patience)
    try:
        contents.read(folder, where)
    except RunFailed:  # damaged on the way, or in the cache: fetch it all once more
        folder = _fetched(request, patience, force_download=True)
        contents.read(folder, where)
    return {"folder": str(folder), "commit": folder.name}


def _fetched(request: dict[str, Any], patience: Patience, **options: Any) -> Path:
    revision = request["revision"] or "main"
    fetch = lambda: snapshot_download(request["repo"], revision=revision, **options)
    try:
        return Path(retried("downloading", fetch, patience))
    except IncompleteSnapshotError as error:
        what = f"is not whole in the cache, and the Hub cannot be asked: {error}"
        raise UserError(f"hub:{request['repo']}", " ".join(what.split()).rstrip(".")) from error
