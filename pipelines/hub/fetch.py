"""Resolve `hub:ORG/NAME` to a folder, for every command that takes one; its commit is printed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UserError
from pipelines.hub import address, contents, mirror
from pipelines.hub.messages import DownloadAnswer
from pipelines.hub.mirror import again
from pipelines.hub.worker import ask
from pipelines.shown import printable

RUN, ABLATION = "run", "ablation"  # folders of a repository that hold the records


@dataclass(frozen=True)
class Fetched:
    """A downloaded repository: its folder in the cache of the Hub's client, and its commit."""

    folder: Path
    commit: str


KNOWN: dict[str, Fetched] = {}  # downloads of this process, by name and by commit


def fetch(text: str) -> Fetched:
    """Download "hub:ORG/NAME" or "hub:ORG/NAME@REVISION", once in a process.

    Raises:
        UserError: the text is not an address, nothing is there, or attnlab did not push it.
        RunFailed: the Hub cannot be reached, or sends other bytes than were pushed.
    """
    if text not in KNOWN:
        parsed = address.parse(text)
        answer = _in_mirror(text, parsed) or ask(
            "download", {"repo": parsed.repo, "revision": parsed.revision}, num_bytes=None
        )
        if answer["commit"] != parsed.revision:
            print(printable(f"hub:{parsed.repo} at commit {answer['commit']}"), file=sys.stderr)
        pinned = str(address.Address(parsed.repo, answer["commit"]))
        KNOWN[text] = KNOWN[pinned] = Fetched(Path(answer["folder"]), answer["commit"])
    return KNOWN[text]


def _in_mirror(text: str, parsed: address.Address) -> DownloadAnswer | None:
    """Return what the mirror holds at an address, checked as a download is; None: it does not hold it."""
    mirrored = mirror.find_at("models", parsed.repo, parsed.revision)
    if mirrored is None:
        return None
    if mirrored.commit is None:
        raise UserError(text, f"the mirror holds it without a commit ({mirrored.folder})", accepted=again())
    contents.check(mirrored.folder, text)
    return {"folder": str(mirrored.folder), "commit": mirrored.commit}


def fetch_model(text: str) -> Fetched:
    """Download the model at an address, as `fetch`.

    Raises:
        UserError: as `fetch`, or the address is that of an ablation.
    """
    found = fetch(text)
    if not (found.folder / RUN).is_dir():
        fix = f"name one of its models, such as {text.partition('@')[0]}@ARM (its card lists them)"
        raise UserError(text, "is an ablation, not a model", accepted=fix)
    return found


def model_source(name: str) -> str:
    """Return what transformers loads a model from: its name on the Hub, or its folder.

    The folder is that of the mirror, or of the download of an address; any other name is returned unchanged.
    """
    if address.is_address(name):
        return str(fetch_model(name).folder)
    mirrored = mirror.find("models", name)
    return str(mirrored.folder) if mirrored else name
