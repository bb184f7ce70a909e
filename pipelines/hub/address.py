"""The address of something on the Hub: `hub:ORG/NAME`, optionally with `@revision`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeGuard

from pipelines.errors import UserError

PREFIX = "hub:"
# What the Hub takes as the name of a user, an organization or a repository.
PART = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9])?"


@dataclass(frozen=True)
class Address:
    """A repository and a branch, tag or commit of it; None is its main branch."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_address(text: str | None) -> TypeGuard[str]:
    """Return whether a name that a user wrote is an address on the Hub, not a folder."""
    return text is not None and text.startswith(PREFIX)


def parse(text: str) -> Address:
    """Return the address behind "hub:ORG/NAME" or "hub:ORG/NAME@REVISION".

    Raises:
        UserError: the text does not have that form.
    """
    repo, _, revision = text.removeprefix(PREFIX).partition("@")
    return Address(require_repo(repo, text), revision or None)


def split_revision(name: str) -> tuple[str, str | None]:
    """Split "ORG/NAME@REVISION", without hub:, into a name and a revision; anything else is a name."""
    repo, _, revision = name.partition("@")
    return (repo, revision) if revision and re.fullmatch(f"{PART}(?:/{PART})?", repo) else (name, None)


def require_repo(repo: str, where: str = "ORG/NAME") -> str:
    """Return `repo` if it can name a repository.

    Raises:
        UserError: it does not have the form ORG/NAME.
    """
    if not re.fullmatch(f"{PART}/{PART}", repo) or "--" in repo or ".." in repo:
        accepted = "write ORG/NAME: an organization or user, a slash, a name of letters, digits, - _ ."
        raise UserError(where, "is not a repository name of the Hub", repo, accepted)
    return repo
