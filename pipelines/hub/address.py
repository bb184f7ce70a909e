"""Where something is on the Hub: `hub:ORG/NAME`, perhaps with `@revision`."""

from __future__ import annotations

import re
from dataclasses import dataclass

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


def is_address(text: str | None) -> bool:
    """Whether a name that a user wrote means the Hub and not a folder."""
    return text is not None and text.startswith(PREFIX)


def parse(text: str) -> Address:
    """The address behind "hub:ORG/NAME" or "hub:ORG/NAME@REVISION".

    Raises:
        UserError: it is not of that form.
    """
    repo, _, revision = text.removeprefix(PREFIX).partition("@")
    return Address(checked(repo, text), revision or None)


def checked(repo: str, where: str = "ORG/NAME") -> str:
    """The name of a repository, if it is one.

    Raises:
        UserError: it is not of the form ORG/NAME.
    """
    if not re.fullmatch(f"{PART}/{PART}", repo) or "--" in repo or ".." in repo:
        accepted = "write ORG/NAME: an organization or user, a slash, a name of letters, digits, - _ ."
        raise UserError(where, "is no repository of the Hub", repo, accepted)
    return repo
