"""Anchor a registration on the Hub: commit it to an empty repository, and read it again at that commit."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from pipelines.errors import RunFailed, UserError
from pipelines.hub.client import Patience, retried
from pipelines.hub.messages import AnchoredAnswer, AnchoredRequest, AnchorRequest, UploadAnswer
from pipelines.storage.names import REGISTRATION

OF_THE_HUB = (".gitattributes", "README.md")  # what the Hub itself puts into a new repository


def anchor(request: AnchorRequest, patience: Patience) -> UploadAnswer:
    """Commit a registration to a repository that is empty, or that holds this very one already.

    Raises:
        UserError: the repository holds anything else.
        HfHubHTTPError: the Hub refuses.
        RunFailed: the Hub stayed unavailable.
    """
    api, repo = HfApi(), request["repo"]
    retried("creating the repository", lambda: api.create_repo(repo, exist_ok=True), patience)
    commit = retried("anchoring the registration", lambda: _commit(api, request), patience)
    return {"commit": commit, "url": f"{api.endpoint}/{repo}"}


def _commit(api: HfApi, request: AnchorRequest) -> str:
    """Return the commit that holds the registration; there is no second one if an answer was lost."""
    repo = request["repo"]
    head = api.repo_info(repo).sha
    if head is None:
        raise RunFailed(f"{repo}: the Hub names no commit")
    files = {entry.path for entry in api.list_repo_tree(repo, recursive=True, revision=head)}
    others = sorted(files - {REGISTRATION, *OF_THE_HUB})
    if others or (REGISTRATION in files and _read(repo, head) != request["text"]):
        what = f"is not empty: it holds {others[0] if others else f'another {REGISTRATION}'}"
        raise UserError(
            repo, f"{what}, so a registration in it proves nothing", accepted="name a new repository"
        )
    if REGISTRATION in files:
        return head
    addition = CommitOperationAdd(REGISTRATION, request["text"].encode())
    return api.create_commit(repo, [addition], commit_message=request["title"], parent_commit=head).oid


def anchored(request: AnchoredRequest, patience: Patience) -> AnchoredAnswer:
    """Return the registration in a repository at the commit that anchors it.

    Raises:
        HfHubHTTPError: there is no such repository, or the commit holds none.
        RunFailed: the Hub stayed unavailable.
    """
    repo, commit = request["repo"], request["revision"]
    text = retried("reading the anchored registration", lambda: _read(repo, commit), patience)
    try:
        problem = retried("reading the history", lambda: _problem(HfApi(), repo, commit), patience)
    except HfHubHTTPError as error:
        return {"text": text, "problem": "", "unread": str(error).splitlines()[0]}
    return {"text": text, "problem": problem, "unread": ""}


def _problem(api: HfApi, repo: str, commit: str) -> str:
    """Return why a commit is not the first one of its repository that holds a registration; empty: it is."""
    history = [one.commit_id for one in api.list_repo_commits(repo)]  # the newest first
    if commit not in history:
        return "is not in the history of its repository any more, which was rewritten"
    for earlier in history[history.index(commit) + 1 :]:
        files = {entry.path for entry in api.list_repo_tree(repo, recursive=True, revision=earlier)}
        if REGISTRATION in files:
            return f"came later: commit {earlier[:12]} before it holds a registration already"
    return ""


def _read(repo: str, revision: str) -> str:
    return Path(hf_hub_download(repo, REGISTRATION, revision=revision)).read_text(encoding="utf-8")
