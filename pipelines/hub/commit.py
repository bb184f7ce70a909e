"""Ask the Hub which commit a branch or tag means now."""

from __future__ import annotations

from huggingface_hub import HfApi

from pipelines.errors import RunFailed
from pipelines.hub.client import Patience, retried
from pipelines.hub.messages import CommitAnswer, CommitRequest


def commit(request: CommitRequest, patience: Patience) -> CommitAnswer:
    """Return the commit of a branch or tag.

    Raises:
        HfHubHTTPError: there is no such repository or revision.
        RunFailed: the Hub stayed unavailable, or names no commit.
    """
    repo, kind = request["repo"], request["kind"].removesuffix("s")
    look = lambda: HfApi().repo_info(repo, repo_type=kind, revision=request["revision"])
    if request["brief"]:
        patience = Patience(patience.seconds / 30)
    found = retried(f"asking for the commit of {repo}", look, patience).sha
    if found is None:
        raise RunFailed(f"{repo}: the Hub names no commit for {request['revision'] or 'main'}")
    return {"commit": found}
