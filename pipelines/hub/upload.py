"""From a staged folder to one commit on the Hub that holds exactly it, however often it takes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._runtime import is_xet_available

from pipelines.errors import RunFailed, UserError
from pipelines.hub.client import Patience, retried
from pipelines.hub.contents import CONTENTS

WEIGHTS = (".safetensors", ".bin", ".gguf", ".h5", ".msgpack")


def answer(request: dict[str, Any], patience: Patience) -> dict[str, Any]:
    """Create the repository and the branch if they are missing, commit the folder once, check what arrived.

    A commit replaces what an earlier push left there and leaves other people's files alone. Nothing is
    committed where the branch holds the folder already, so a second call goes on where the first ended.

    Args:
        request: `repo`, `revision` (a branch), `private`, `folder`, `files` (name -> sha256 of what is
            staged), `title` (of the commit), `tag` (of the commit, once it is checked).

    Returns:
        `commit` and `url`.

    Raises:
        UserError: a repository that is not ours to change; HfHubHTTPError: what the Hub refuses.
        RunFailed: the Hub stayed unavailable, or what arrived is not what was sent.
    """
    api, repo, revision = HfApi(), request["repo"], request["revision"]
    private = True if request["private"] else None  # None: as the organization has it
    retried(
        "creating the repository", lambda: api.create_repo(repo, private=private, exist_ok=True), patience
    )
    info = retried("looking at the repository", lambda: api.repo_info(repo), patience)
    if request["private"] and not info.private:
        raise UserError(repo, "is public, and --private was asked for", accepted="make it private on the Hub")
    if revision != "main":
        create = lambda: api.create_branch(repo, branch=revision, exist_ok=True)
        retried(f"creating the branch {revision}", create, patience)
    done = retried("uploading", lambda: _commit(api, request), patience)
    found = retried("checking what arrived", lambda: _files(api, repo, done), patience)
    folder = Path(request["folder"])
    sent = request["files"].items()
    wrong = [name for name, digest in sent if not _arrived(found.get(name), folder / name, digest)]
    if wrong:
        shown = ", ".join(wrong[:3])
        raise RunFailed(f"{repo}: what arrived at {done} is not what was sent: {shown}")
    tag = lambda: api.create_tag(repo, tag=request["tag"], revision=done, exist_ok=True)
    retried("tagging the commit", tag, patience)
    return {"commit": done, "url": f"{api.endpoint}/{repo}"}


def _commit(api: HfApi, request: dict[str, Any]) -> str:
    """One attempt, which looks at what is there first: a lost answer leaves no second commit."""
    repo, revision = request["repo"], request["revision"]
    head = api.repo_info(repo, revision=revision).sha
    there = _files(api, repo, head)
    foreign = [name for name in there if name.endswith(WEIGHTS)]
    if foreign and CONTENTS not in there:
        what = f"holds {foreign[0]}, which attnlab did not push"
        raise UserError(f"{repo}, {revision}", what, accepted="choose another ORG/NAME or --revision")
    before = _pushed_before(repo, head) if CONTENTS in there else set()
    stale = before & there.keys() - request["files"].keys()
    operations = [CommitOperationDelete(path_in_repo=name, is_folder=False) for name in sorted(stale)]
    operations += _additions(api, request)
    done = api.create_commit(
        repo, operations, commit_message=request["title"], revision=revision, parent_commit=head
    )
    return done.oid


def _additions(api: HfApi, request: dict[str, Any]) -> list[CommitOperationAdd]:
    """All that is staged; where large files go by LFS they are with the Hub already, and were offered twice.

    The second time it asks for what it does not hold under its hash, so bytes that changed on the way are
    sent again before there is a commit of them. Xet refuses such bytes itself.
    """
    folder = Path(request["folder"])
    for _ in range(2):
        additions = [CommitOperationAdd(name, folder / name) for name in sorted(request["files"])]
        if is_xet_available():
            break
        api.preupload_lfs_files(request["repo"], additions, revision=request["revision"])
    return additions


def _files(api: HfApi, repo: str, revision: str) -> dict[str, RepoFile]:
    entries = api.list_repo_tree(repo, recursive=True, revision=revision)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _pushed_before(repo: str, head: str) -> set[str]:
    """The files that an earlier push put there, by the list that it left; others are not ours to delete."""
    listed = Path(hf_hub_download(repo, CONTENTS, revision=head)).read_text(encoding="utf-8")
    return set(json.loads(listed)["files"])


def _arrived(entry: RepoFile | None, path: Path, digest: str) -> bool:
    """Whether the Hub holds these bytes: it knows large files by their sha256, others as git does."""
    if entry is None:
        return False
    if entry.lfs is not None:
        return entry.lfs.sha256 == digest
    content = path.read_bytes()
    return entry.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
