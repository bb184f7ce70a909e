"""Download a repository from the Hub, pinned to one commit, and check every file of it."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import IncompleteSnapshotError

from pipelines.errors import RunFailed, UserError
from pipelines.hub import contents
from pipelines.hub.client import Patience, retried
from pipelines.hub.messages import DownloadAnswer, DownloadRequest


def download(request: DownloadRequest, patience: Patience) -> DownloadAnswer:
    """Download what is not in the cache yet, and check all of it.

    Raises:
        UserError: attnlab did not push it.
        RunFailed: the Hub stayed unavailable, or twice sent other bytes than were pushed.
    """
    where = f"hub:{request['repo']}"
    folder = _snapshot(request, patience)
    try:
        contents.check(folder, where)
    except RunFailed:  # damaged on the way or in the cache: download everything once more
        folder = _snapshot(request, patience, force=True)
        contents.check(folder, where)
    return {"folder": str(folder), "commit": folder.name}


def _snapshot(request: DownloadRequest, patience: Patience, *, force: bool = False) -> Path:
    """Return the folder of a repository in the cache; with `force` every file is downloaded again."""
    revision = request["revision"] or "main"
    fetch = lambda: snapshot_download(request["repo"], revision=revision, force_download=force)
    try:
        return Path(retried("downloading", fetch, patience))
    except IncompleteSnapshotError as error:
        what = f"is incomplete in the cache, and the Hub cannot be asked: {error}"
        raise UserError(f"hub:{request['repo']}", " ".join(what.split()).rstrip(".")) from error
