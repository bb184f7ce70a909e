"""Fetch a repository of the Hub at one commit into a folder of the mirror."""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.hf_api import RepoFile

from pipelines.errors import RunFailed, UserError
from pipelines.hub import mirror
from pipelines.hub.client import Patience, retried
from pipelines.hub.commit import commit
from pipelines.hub.contents import CARD
from pipelines.hub.data_set import files_on_the_hub
from pipelines.hub.messages import CommitRequest, FillAnswer, FillRequest, Take
from pipelines.storage.names import PROCESSOR_FILES, WEIGHT_FILES
from pipelines.storage.paths import inside

ABOUT = (CARD, ".huggingface.yaml", "dataset_infos.json", "LICENSE*")  # read with every part
PATTERNS: Mapping[Take, tuple[str, ...]] = {
    "data": ABOUT,
    "processor": (*ABOUT, "config.json", *PROCESSOR_FILES),
    # Code of a model is never run.
    "model": (*ABOUT, *(name for name in WEIGHT_FILES if not name.endswith(".py")), *PROCESSOR_FILES),
    "all": ("*",),
}


def fill(request: FillRequest, patience: Patience) -> FillAnswer:
    """Download what is not in the folder yet, and check all of it; a second call goes on where one stopped.

    Until all is there the folder holds `mirror.UNFINISHED`, with which nothing reads it.

    Raises:
        UserError: the repository has nothing that can be used, or names files outside of itself; or the
            folder holds files that were not fetched.
        RunFailed: the Hub stayed unavailable, or twice sent other bytes than it lists.
    """
    repo, folder, named = request["repo"], Path(request["folder"]), request["revision"]
    request = {**request, "revision": _commit(request, patience)}
    listed = retried(f"listing {repo}", lambda: _listed(request), patience)
    for name in listed:
        inside(folder, name, repo)
    if request["kind"] == "datasets" and CARD in listed:
        retried(f"reading the card of {repo}", lambda: _renew_card(request, listed[CARD]), patience)
    parts = lambda: {
        name for part in request["parts"] for name in files_on_the_hub(repo, part, request["revision"])
    }
    data = retried(f"reading {repo}", parts, patience) if request["kind"] == "datasets" else set()
    patterns = PATTERNS[request["take"]]
    wanted = data | {name for name in listed if any(fnmatch.fnmatch(name, one) for one in patterns)}
    if request["take"] == "model":
        _require_weights(repo, wanted)
    there = _fetched_before(folder)
    wanted |= there & listed.keys()  # of other parts
    missing = _not_at(folder, wanted, listed, request["revision"])
    if missing or there - wanted or (folder / mirror.UNFINISHED).exists():
        _download(request, wanted, listed, patience)
        for name in there - wanted:
            _remove(folder, name)
        (folder / mirror.UNFINISHED).unlink()
    (folder / mirror.REVISION).write_text(named, encoding="utf-8")
    return {
        "commit": request["revision"],
        "num_files": len(wanted),
        "num_bytes": sum(listed[name].size for name in wanted),
        "num_fetched": len(missing),
    }


def _renew_card(request: FillRequest, entry: RepoFile) -> None:
    """Download the card again if it is damaged in the cache from which `datasets` reads it."""
    fetch = partial(hf_hub_download, request["repo"], CARD, repo_type="dataset", revision=request["revision"])
    right = entry.lfs.sha256 if entry.lfs is not None else entry.blob_id
    if (
        mirror.digest(Path(fetch()), right) != right
        and mirror.digest(Path(fetch(force_download=True)), right) != right
    ):
        raise RunFailed(f"{request['repo']}: the Hub twice sent other bytes than it lists: {CARD}")


def _commit(request: FillRequest, patience: Patience) -> str:
    if mirror.COMMIT.fullmatch(request["revision"]):
        return request["revision"]
    asked = CommitRequest(
        repo=request["repo"], kind=request["kind"], revision=request["revision"], brief=False
    )
    return commit(asked, patience)["commit"]


def _listed(request: FillRequest) -> dict[str, RepoFile]:
    """Return the files of the repository at the commit."""
    kind = request["kind"].removesuffix("s")
    entries = HfApi().list_repo_tree(
        request["repo"], recursive=True, revision=request["revision"], repo_type=kind
    )
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _require_weights(repo: str, wanted: set[str]) -> None:
    if not any(name.endswith(".safetensors") for name in wanted):
        fix = "name another model, or another revision of it"
        raise UserError(repo, "has no weights as model.safetensors at its top", accepted=fix)


def _fetched_before(folder: Path) -> set[str]:
    """Return the files of the folder, all of which must have been fetched."""
    names = set()
    for file in mirror.files_of(folder) if folder.is_dir() else ():
        name = file.relative_to(folder).as_posix()
        if mirror.note_of(folder, file) is None:
            fix = "move the folder away, and fetch again"
            raise UserError(str(folder), f"holds {name}, which was not fetched from the Hub", accepted=fix)
        names.add(name)
    return names


def _not_at(folder: Path, wanted: set[str], listed: Mapping[str, RepoFile], commit: str) -> set[str]:
    """Return the files that are not in the folder as they are at the commit."""
    return {name for name in wanted if not _is_at(folder, folder / name, listed[name], commit)}


def _is_at(folder: Path, file: Path, entry: RepoFile, commit: str) -> bool:
    note = mirror.note_of(folder, file)
    right = entry.lfs.sha256 if entry.lfs is not None else entry.blob_id
    return file.is_file() and note == (commit, right) and mirror.digest(file, right) == right


def _download(
    request: FillRequest, wanted: set[str], listed: Mapping[str, RepoFile], patience: Patience
) -> None:
    """Download the wanted files, once more if some arrive as others than the Hub lists."""
    folder, kind = Path(request["folder"]), request["kind"].removesuffix("s")
    marker = folder / mirror.UNFINISHED
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    fetch = lambda: snapshot_download(
        request["repo"],
        repo_type=kind,
        revision=request["revision"],
        local_dir=folder,
        allow_patterns=[glob.escape(name) for name in sorted(wanted)],
    )
    for _ in range(2):
        retried(f"downloading {request['repo']}", fetch, patience)
        wrong = _not_at(folder, wanted, listed, request["revision"])
        if not wrong:
            return
        for name in wrong:
            _remove(folder, name)
    raise RunFailed(f"{request['repo']}: the Hub twice sent other bytes than it lists: {min(wrong)}")


def _remove(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / mirror.METADATA / f"{name}.metadata").unlink(missing_ok=True)
