"""The git repository of the working folder: whether it is clean, and a commit that changes no file."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pipelines.errors import UserError

NAME = "anchor: git"


def refuse_dirty(without: Path) -> None:
    """Refuse a working tree that is not what its commit says.

    Args:
        without: a folder whose files do not count: that of the ablations and their runs.

    Raises:
        UserError: there is no repository with a commit, or it names a file that has changed.
    """
    top = Path(_required("rev-parse", "--show-toplevel"))
    _required("rev-parse", "--verify", "HEAD")
    paths = [":/"]
    if without.is_relative_to(top) and without != top:
        paths.append(f":(exclude,top){without.relative_to(top).as_posix()}")
    changed = _required("status", "--porcelain", "--", *paths).splitlines()
    if changed:
        more = f" and {len(changed) - 1} more" if changed[1:] else ""
        what = f"the working tree has changes that no commit holds: {changed[0].strip()}{more}"
        raise UserError(NAME, what, accepted="commit or stash them first")


def empty_commit(message: str) -> tuple[str, str]:
    """Make a commit on the current branch that changes no file; return its hash and its time.

    Raises:
        UserError: git refuses, for example because it knows no name of the author.
    """
    head = _required("rev-parse", "--verify", "HEAD")
    commit = _required("commit-tree", f"{head}^{{tree}}", "-p", head, "-m", message)
    _required("update-ref", "-m", "attnlab: register", "HEAD", commit, head)
    return commit, time_of(commit) or ""


def message_of(commit: str) -> str | None:
    """Return the message of a commit; None where the working folder has no repository with it."""
    return _output("show", "--no-patch", "--format=%B", f"{commit}^{{commit}}")


def time_of(commit: str) -> str | None:
    """Return when a commit says that it was made; None where the working folder has no repository with it."""
    return _output("show", "--no-patch", "--format=%cI", f"{commit}^{{commit}}")


def is_on_a_branch(commit: str) -> bool:
    """Return whether a branch, a tag or the working tree descends from a commit, or is it."""
    return bool(_output("for-each-ref", "--count=1", "--contains", commit)) or (
        _output("merge-base", "--is-ancestor", commit, "HEAD") is not None
    )


def remotes_with(commit: str) -> list[str]:
    """Return the remote branches that hold a commit, as this repository last saw them."""
    return (_output("branch", "--remotes", "--contains", commit, "--format=%(refname:short)") or "").split()


def _required(*arguments: str) -> str:
    done = _git(*arguments)
    if done is None:
        raise UserError(NAME, "git is not installed", accepted="install git, or leave the anchor out")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise UserError(NAME, f"git {arguments[0]} failed in the working folder: {reason.rstrip('.')}")
    return done.stdout.strip()


def _output(*arguments: str) -> str | None:
    done = _git(*arguments)
    return done.stdout.strip() if done is not None and done.returncode == 0 else None


def _git(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
