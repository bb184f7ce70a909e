"""The steps that every push shares: check access first, upload, print where it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import RunFailed
from pipelines.hub.messages import PreflightRequest, UploadRequest
from pipelines.hub.worker import ask
from pipelines.publish.staging import PushRequest, Staged, print_progress
from pipelines.shown import printable
from pipelines.storage.lock import Busy, lock
from pipelines.storage.names import HUB, LOCK


def upload(staged: Staged, request: PushRequest, title: str) -> Staged:
    """Upload a staged folder, record its commit, and print its address."""
    record = staged.record
    message: UploadRequest = {
        "repo": request.repo,
        "revision": request.revision,
        "private": request.private,
        "folder": staged.folder,
        "files": dict(record["files"]),
        "title": title,
        "tag": record["tag"],
    }
    size = f"{staged.num_bytes:,} bytes in {len(record['files'])} files"
    print_progress(f"{request.repo}: sending what is missing there of {size}")
    answer = ask("upload", message, num_bytes=staged.num_bytes)
    commit = f"branch {request.revision}, commit {answer['commit']}, tag {record['tag']}"
    print(printable(f"pushed: {answer['url']} ({commit})"))
    return staged.pushed(answer["commit"], answer["url"])


def preflight_request(request: PushRequest, config: Mapping[str, Any]) -> PreflightRequest:
    """Return what to ask the Hub before a run is trained or staged; its card has no scores yet."""
    from pipelines.publish import run_repository as run

    return {
        "repo": request.repo,
        "private": request.private,
        "card": run.card_before(request, config),
        "base_model": run.base_model(config),
    }


@contextmanager
def only_push(path: Path) -> Iterator[None]:
    """Hold the lock of a folder, so that one process at a time pushes it.

    Raises:
        RunFailed: another process holds it.
    """
    try:
        with lock(path / HUB / LOCK):
            yield
    except Busy as error:
        raise RunFailed(f"{error}: it pushes this folder already") from error


def show(staged: Staged) -> Staged:
    """Print what an upload of a staged folder would send."""
    record = staged.record
    for name in record["files"]:
        print(printable(f"{(staged.folder / name).stat().st_size:>12,}  {name}", keep=""))
    ways = ", ".join(f"{way} {gap:.2g}" for way, gap in record["proof"].items())
    checked = f"; loaded in a fresh process, largest difference: {ways}" if ways else ""
    print(printable(f"{staged.num_bytes:>12,}  bytes in total: {record['kind']}{checked}"))
    print(printable(f"nothing was sent; it is ready in {staged.folder}"))
    return staged
