"""`hub:ORG/NAME` wherever a command takes a folder: fetched, checked, pinned, and said which commit it is."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UserError
from pipelines.hub import address
from pipelines.hub.worker import ask

RUN, ABLATION = "run", "ablation"  # where in a repository the records are


@dataclass(frozen=True)
class Fetched:
    """What stands at an address: a folder in the cache of the Hub's client, and the commit that it is."""

    folder: Path
    commit: str


KNOWN: dict[str, Fetched] = {}  # what this process has fetched, by name and by commit


def fetch(text: str) -> Fetched:
    """Fetch, once in a process, what "hub:ORG/NAME" or "hub:ORG/NAME@REVISION" means.

    Raises:
        UserError: it is no address, there is nothing, or attnlab did not push it.
        RunFailed: the Hub cannot be reached, or sends other bytes than were pushed.
    """
    if text not in KNOWN:
        known = address.parse(text)
        answer = ask("download", {"repo": known.repo, "revision": known.revision}, num_bytes=None)
        if answer["commit"] != known.revision:
            print(f"hub:{known.repo} at commit {answer['commit']}", file=sys.stderr)
        pinned = str(address.Address(known.repo, answer["commit"]))
        KNOWN[text] = KNOWN[pinned] = Fetched(Path(answer["folder"]), answer["commit"])
    return KNOWN[text]


def fetch_model(text: str) -> Fetched:
    """The same for what has to be a model.

    Raises:
        UserError: as `fetch`, or an ablation stands at the address.
    """
    found = fetch(text)
    if not (found.folder / RUN).is_dir():
        fix = f"name one of its models, such as {text.partition('@')[0]}@ARM (its card lists them)"
        raise UserError(text, "is an ablation, not a model", accepted=fix)
    return found


def model_source(name: str) -> str:
    """A model's folder or Hub id, as transformers takes it: that of a pushed model is in the cache."""
    return str(fetch_model(name).folder) if address.is_address(name) else name
