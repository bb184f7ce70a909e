"""The steps that every push shares: check access first, upload, say where it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import RunFailed
from pipelines.hub.worker import ask
from pipelines.publish.staging import FOLDER, PushRequest, Staged, say
from pipelines.storage.lock import Busy, lock


def upload(staged: Staged, wanted: PushRequest, title: str) -> Staged:
    """Send a staged folder, and write down where it went."""
    record = staged.record
    request = {"repo": wanted.repo, "revision": wanted.revision, "private": wanted.private}
    request |= {"folder": staged.folder, "files": record["files"], "title": title, "tag": record["tag"]}
    size = f"{staged.num_bytes:,} bytes in {len(record['files'])} files"
    say(f"{wanted.repo}: sending what is not there yet of {size}")
    answer = ask("upload", request, num_bytes=staged.num_bytes)
    done = staged.pushed(answer["commit"], answer["url"])
    print(
        f"pushed: {answer['url']} (branch {wanted.revision}, commit {answer['commit']}, tag {record['tag']})"
    )
    return done


def preflight_of(wanted: PushRequest, config: dict[str, Any]) -> dict[str, Any]:
    """What to ask the Hub before a run is trained or staged: the card as far as it is known yet."""
    from pipelines.publish import run_repository as run

    card = run.card_before(wanted, config)
    base = run.base_model(config)
    return {"repo": wanted.repo, "private": wanted.private, "card": card, "base_model": base}


@contextmanager
def only_push(path: Path) -> Iterator[None]:
    """One push of a folder at a time."""
    try:
        with lock(path / FOLDER / ".lock"):
            yield
    except Busy as error:
        raise RunFailed(f"{error}: it pushes this folder already") from error


def show(staged: Staged) -> Staged:
    for name in staged.record["files"]:
        print(f"{(staged.folder / name).stat().st_size:>12,}  {name}")
    ways = ", ".join(f"{way} {gap:.2g}" for way, gap in staged.record["proof"].items())
    proof = f"; loaded in a fresh process, largest difference: {ways}" if ways else ""
    print(f"{staged.num_bytes:>12,}  bytes in all: {staged.record['kind']}{proof}")
    print(f"nothing was sent; it is ready in {staged.folder}")
    return staged
