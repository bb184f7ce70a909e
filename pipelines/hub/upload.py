"""Upload a staged folder as one commit on the Hub, which may be repeated until it has arrived."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TypeAlias

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, hf_hub_download
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import is_package_available

from pipelines.errors import RunFailed, UserError
from pipelines.hub.client import Patience, retried
from pipelines.hub.contents import CONTENTS
from pipelines.hub.messages import UploadAnswer, UploadRequest

Operation: TypeAlias = CommitOperationAdd | CommitOperationDelete
WEIGHTS = (".safetensors", ".bin", ".gguf", ".h5", ".msgpack")


def upload(request: UploadRequest, patience: Patience) -> UploadAnswer:
    """Create the repository and the branch if they are missing, commit the folder once, check what arrived.

    A commit replaces the files of an earlier push and leaves all others alone. Nothing is committed where the
    branch holds the folder already, so a second call resumes where the first ended.

    Raises:
        UserError: the repository holds a model that attnlab did not push, or is public and should be private.
        HfHubHTTPError: the Hub refuses.
        RunFailed: the Hub stayed unavailable, or what arrived differs from what was sent.
    """
    api, repo, revision = HfApi(), request["repo"], request["revision"]
    private = True if request["private"] else None  # None: the default of the organization
    retried(
        "creating the repository", lambda: api.create_repo(repo, private=private, exist_ok=True), patience
    )
    info = retried("looking at the repository", lambda: api.repo_info(repo), patience)
    if request["private"] and not info.private:
        raise UserError(repo, "is public, and --private was asked for", accepted="make it private on the Hub")
    if revision != "main":
        create = lambda: api.create_branch(repo, branch=revision, exist_ok=True)
        retried(f"creating the branch {revision}", create, patience)
    commit = retried("uploading", lambda: _commit(api, request), patience)
    found = retried("checking what arrived", lambda: _files(api, repo, commit), patience)
    folder = Path(request["folder"])  # JSON made it a text
    sent = request["files"].items()
    wrong = [name for name, digest in sent if not _arrived(found.get(name), folder / name, digest)]
    if wrong:
        shown = ", ".join(wrong[:3])
        raise RunFailed(f"{repo}: what arrived at {commit} is not what was sent: {shown}")
    tag = lambda: api.create_tag(repo, tag=request["tag"], revision=commit, exist_ok=True)
    retried("tagging the commit", tag, patience)
    return {"commit": commit, "url": f"{api.endpoint}/{repo}"}


def _commit(api: HfApi, request: UploadRequest) -> str:
    """Commit the folder to the branch and return the commit.

    It reads the branch first: if the answer to an earlier attempt was lost, there is no second commit.
    """
    repo, revision = request["repo"], request["revision"]
    head = api.repo_info(repo, revision=revision).sha
    if head is None:
        raise RunFailed(f"{repo}: the Hub names no commit for {revision}")
    on_branch = _files(api, repo, head)
    foreign = [name for name in on_branch if name.endswith(WEIGHTS)]
    if foreign and CONTENTS not in on_branch:
        what = f"holds {foreign[0]}, which attnlab did not push"
        raise UserError(f"{repo}, {revision}", what, accepted="choose another ORG/NAME or --revision")
    before = _pushed_before(repo, head) if CONTENTS in on_branch else set()
    stale = before & on_branch.keys() - request["files"].keys()
    deletions = [CommitOperationDelete(path_in_repo=name, is_folder=False) for name in sorted(stale)]
    operations: list[Operation] = [*deletions, *_additions(api, request)]
    commit = api.create_commit(
        repo, operations, commit_message=request["title"], revision=revision, parent_commit=head
    )
    return commit.oid


def _additions(api: HfApi, request: UploadRequest) -> list[CommitOperationAdd]:
    """Return all staged files as parts of a commit; large files that go by LFS are uploaded first, twice.

    The second upload sends only what the Hub does not hold under its hash. So bytes that changed on the way
    are sent again before they are committed. Xet refuses such bytes itself.
    """
    folder = Path(request["folder"])
    for _ in range(2):
        additions = [CommitOperationAdd(name, folder / name) for name in sorted(request["files"])]
        if _uses_xet():
            break
        api.preupload_lfs_files(request["repo"], additions, revision=request["revision"])
    return additions


def _uses_xet() -> bool:
    """Return whether the Hub's client sends large files by Xet: it is installed and not disabled."""
    return not constants.HF_HUB_DISABLE_XET and is_package_available("hf_xet")


def _files(api: HfApi, repo: str, revision: str) -> dict[str, RepoFile]:
    entries = api.list_repo_tree(repo, recursive=True, revision=revision)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _pushed_before(repo: str, head: str) -> set[str]:
    """Return the files of an earlier push, from its `attnlab.json`; no other file may be deleted."""
    listed = Path(hf_hub_download(repo, CONTENTS, revision=head)).read_text(encoding="utf-8")
    return set(json.loads(listed)["files"])


def _arrived(entry: RepoFile | None, path: Path, digest: str) -> bool:
    """Return whether the Hub holds the bytes of `path`: by sha256 for large files, else by git's hash."""
    if entry is None:
        return False
    if entry.lfs is not None:
        return entry.lfs.sha256 == digest
    content = path.read_bytes()
    return entry.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
