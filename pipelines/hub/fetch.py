"""Resolve `hub:ORG/NAME` to a folder, for every command that takes one; its commit is printed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UserError
from pipelines.hub import address
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
        answer = ask("download", {"repo": parsed.repo, "revision": parsed.revision}, num_bytes=None)
        if answer["commit"] != parsed.revision:
            print(printable(f"hub:{parsed.repo} at commit {answer['commit']}"), file=sys.stderr)
        pinned = str(address.Address(parsed.repo, answer["commit"]))
        KNOWN[text] = KNOWN[pinned] = Fetched(Path(answer["folder"]), answer["commit"])
    return KNOWN[text]


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
    """Return what transformers loads a model from: its name, or the downloaded folder of an address."""
    return str(fetch_model(name).folder) if address.is_address(name) else name
