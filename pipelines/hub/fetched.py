"""`hub:ORG/NAME` wherever a command takes a folder: fetched, checked, pinned, and said which commit it is."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UserError
from pipelines.hub import address
from pipelines.hub.worker import ask
from pipelines.results import RunFolder
from pipelines.stored import TOGETHER

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


def record(text: str) -> Path:
    """The record of a run or an ablation: the folder itself, or what was pushed at an address.

    Raises:
        UserError: as `fetch`, or what stands there holds no record, or one of folders elsewhere.
    """
    if not address.is_address(text):
        return Path(text)
    folder = fetch(text).folder
    found = next((folder / name for name in (ABLATION, RUN) if (folder / name).is_dir()), None)
    if found is None or (found / TOGETHER).exists():
        what = "holds no record" if found is None else f"has a {TOGETHER}, which names folders outside of it"
        raise UserError(text, what, accepted="attnlab pushes no such thing")
    return found


def run_folder(text: str | Path) -> RunFolder:
    """A finished run with its model: a run folder, or one that was pushed.

    Raises:
        UserError: an ablation stands at the address.
    """
    if not address.is_address(str(text)):
        return RunFolder(Path(text))
    folder = fetch_model(str(text)).folder
    return RunFolder(folder / RUN, model=folder)
