"""Find the commit that a name on the Hub means now: in the mirror, on the Hub, or in its client's cache."""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines.errors import RunFailed
from pipelines.hub import mirror
from pipelines.hub.mirror import COMMIT, Kind
from pipelines.hub.worker import ask
from pipelines.shown import printable

KNOWN: dict[tuple[str, str, str | None], str | None] = {}  # answers of the Hub to this process
SAID: set[str] = set()


def pinned_revision(kind: Kind, name: str, revision: str | None) -> str | None:
    """Return the commit of a repository at a revision, and say once where it is read from.

    Returns:
        None where the mirror holds it without a commit: no revision names that content. `revision` where
        nothing is known: the name is a path of this machine, or is neither cached nor may the Hub be asked.

    Raises:
        UserError: the mirror holds another revision, or there is no such repository.
        RunFailed: the Hub cannot be reached, and nothing is in the cache.
    """
    if not mirror.is_repository(name):
        return revision
    mirrored = mirror.find_at(kind, name, revision)
    if mirrored is not None:
        known = (
            f"commit {mirrored.commit}" if mirrored.commit else f"which states no commit; {mirrored.content}"
        )
        _say(f"{name}: from the mirror, {known}")
        return mirrored.commit
    if revision and COMMIT.fullmatch(revision):
        return revision
    key = (kind, name, revision)
    if key not in KNOWN:
        KNOWN[key] = _on_the_hub(kind, name, revision)
    if KNOWN[key] is not None:
        _say(f"{name} at commit {KNOWN[key]}")
    return KNOWN[key] or revision


def _on_the_hub(kind: Kind, name: str, revision: str | None) -> str | None:
    from huggingface_hub import constants

    cached = _in_cache(kind, name, revision)
    if constants.HF_HUB_OFFLINE:
        return cached
    try:
        brief = cached is not None
        return ask("commit", {"repo": name, "kind": kind, "revision": revision, "brief": brief})["commit"]
    except RunFailed as error:
        if cached is None:
            raise
        _say(f"{error}; it is read from the cache of the Hub's client")
        return cached


def _in_cache(kind: Kind, name: str, revision: str | None) -> str | None:
    """Return the commit that a branch or tag meant when the Hub's client downloaded it last."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE, f"{kind}--{name.replace('/', '--')}")
    reference = folder / "refs" / (revision or "main")
    return reference.read_text(encoding="utf-8").strip() if reference.is_file() else None


def _say(text: str) -> None:
    if text in SAID:
        return
    SAID.add(text)
    print(printable(text), file=sys.stderr, flush=True)
