"""`attnlab fetch`: fill the mirror with the data sets and models that YAML files name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.config import checks, yaml_source
from pipelines.config.load import is_ablation, load_ablation
from pipelines.errors import RunFailed, UserError
from pipelines.hub import address, mirror
from pipelines.hub.messages import TAKES, DataPart, Take
from pipelines.hub.mirror import Kind
from pipelines.hub.worker import ask
from pipelines.shown import printable
from pipelines.storage.lock import Busy, lock

LOCK = ".attnlab-fetch.lock"


@dataclass(frozen=True)
class Need:
    """A repository of the Hub that a configuration names, or a part of one."""

    kind: Kind
    name: str
    revision: str | None
    part: tuple[str | None, str | None] | None = None  # of a data set: configuration, folder
    take: Take = "data"


def fetch_command(files: Sequence[str], overrides: Sequence[str]) -> None:
    """Download what the files name and the mirror lacks; say what it holds then.

    The files may be parts of a run (a task, a model), each read by itself, or ablations.

    Raises:
        UserError: no mirror is named, or the files name nothing on the Hub, or two revisions of one
            repository.
        RunFailed: the Hub stayed unavailable; the same command goes on later.
    """
    named = mirror.named()
    if named is None:
        what, fix = "no folder is named", f"set {mirror.VARIABLE} to the folder that is to hold the mirror"
        raise UserError("attnlab fetch", what, accepted=fix)
    root = Path(named[0]).expanduser().absolute()
    needs = {need: None for file in files for need in _needs(file, overrides)}
    if not needs:
        raise UserError(
            " ".join(files), "names no data set or model of the Hub, so there is nothing to fetch"
        )
    by_repository: dict[tuple[Kind, str], list[Need]] = {}
    for need in needs:
        by_repository.setdefault((need.kind, need.name), []).append(need)
    try:
        with lock(root / LOCK):
            for (kind, name), same in by_repository.items():
                print(printable(_fetch(root, kind, name, same)), flush=True)
    except Busy as error:
        raise RunFailed(f"{error}; one mirror is filled by one process at a time") from error
    how = f"{mirror.VARIABLE}={root} makes" if named[1] == mirror.VARIABLE else f"{named[1]} makes"
    print(printable(f"{how} attnlab read them from there"))


def _fetch(root: Path, kind: Kind, name: str, needs: Sequence[Need]) -> str:
    """Fetch one repository, and return the line about it."""
    revisions = sorted({need.revision or "main" for need in needs})
    if len(revisions) > 1:
        what = "two revisions of one repository are named, and the mirror holds one"
        raise UserError(f"{kind}/{name}", what, " and ".join(revisions), "fetch into two mirrors")
    folder = _inside(root, kind, name)
    parts = [DataPart(config=need.part[0], folder=need.part[1]) for need in needs if need.part]
    answer = ask(
        "fill",
        {
            "repo": name,
            "kind": kind,
            "revision": revisions[0],
            "folder": folder,
            "parts": parts,
            "take": max((need.take for need in needs), key=TAKES.index),
        },
        num_bytes=None,
    )
    news = f"{answer['num_fetched']} fetched" if answer["num_fetched"] else "all there already"
    size = f"{answer['num_files']} files, {answer['num_bytes'] / 1e6:,.1f} MB"
    return f"{kind}/{name} at {answer['commit']}: {size}, {news}"


def _inside(root: Path, kind: Kind, name: str) -> Path:
    """Return the folder of a repository; refuse one that a link leads out of the mirror."""
    folder = root / kind / name
    if not folder.resolve().is_relative_to(root.resolve()):
        what = "is a link out of the mirror, so nothing is written there"
        raise UserError(str(folder), what, str(folder.resolve()), "remove the link")
    return folder


# ---- what a file names
def _needs(file: str, overrides: Sequence[str]) -> Iterator[Need]:
    """Yield what an ablation, a run or a part of a run names on the Hub."""
    if is_ablation(file):
        config = load_ablation(file, overrides)
        for cell in config.cells:
            for arm in config.arms:
                settings = config.run_config(cell, arm, config.seeds[0]).to_dict()
                yield from _of_settings(settings["data"], settings["model"])
        return
    document = yaml_source.merge([yaml_source.read(file), *map(yaml_source.override, overrides)])
    document, _ = checks.resolve_paths(document)  # errors in paths of this machine concern no repository
    sections = (document.get((name,)) for name in ("data", "model"))
    yield from _of_settings(*(section if isinstance(section, dict) else {} for section in sections))


def _of_settings(data: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[Need]:
    if isinstance(name := data.get("name"), str) and not _is_local("data.name", name):
        yield Need("datasets", name, data.get("revision"), (data.get("config"), data.get("folder")))
    if isinstance(name := model.get("name"), str) and not _is_local("model.name", name):
        yield _model(name, model.get("revision"), "model")
    if isinstance(name := model.get("tokenizer"), str) and not _is_local("model.tokenizer", name):
        yield _model(*address.split_revision(name), "processor")


def _model(name: str, revision: str | None, take: Take) -> Need:
    if not address.is_address(name):
        return Need("models", name, revision, take=take)
    parsed = address.parse(name)
    return Need("models", parsed.repo, parsed.revision or revision, take="all")


def _is_local(setting: str, name: str) -> bool:
    """Return whether a name is that of a folder of this machine.

    Raises:
        UserError: it can be neither a folder nor a repository that a mirror holds.
    """
    if os.path.exists(name):
        return True
    if not address.is_address(name) and not mirror.is_repository(address.split_revision(name)[0]):
        what = "is neither a folder that exists nor a repository name of the Hub"
        raise UserError(setting, what, name, "write ORG/NAME")
    return False
