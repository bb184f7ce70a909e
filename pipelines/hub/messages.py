"""The requests that the worker process takes and the answers that it gives, as JSON objects."""

from __future__ import annotations

from pathlib import Path
from typing import NotRequired, TypedDict


class PreflightRequest(TypedDict):
    """What a push will need."""

    repo: str
    private: bool
    card: str  # the text of the README.md
    base_model: str | None  # an id on the Hub


class PreflightAnswer(TypedDict):
    """What the Hub says before a push."""

    user: str  # the owner of the token
    exists: bool  # whether the repository exists already
    base_license: str | None  # the licence that the card of the base model states


class UploadRequest(TypedDict):
    """A staged folder and where to commit it."""

    repo: str
    revision: str  # a branch
    private: bool
    folder: Path
    files: dict[str, str]  # name -> sha256 of each staged file
    title: str  # of the commit
    tag: str  # of the commit, set when its content is checked


class UploadAnswer(TypedDict):
    """The commit that holds the staged folder."""

    commit: str
    url: str


class AnchorRequest(TypedDict):
    """A registration for an empty repository."""

    repo: str
    title: str  # of the commit
    text: str  # of registration.json


class AnchoredRequest(TypedDict):
    """A repository and the commit that holds a registration."""

    repo: str
    revision: str


class AnchoredAnswer(TypedDict):
    """The registration in a repository."""

    text: str


class DownloadRequest(TypedDict):
    """A repository and a branch, tag or commit of it; None is its main branch."""

    repo: str
    revision: str | None


class DownloadAnswer(TypedDict):
    """A folder in the cache of the Hub's client, and the commit that it holds."""

    folder: str
    commit: str


class TokenOwner(TypedDict):
    """The part of the Hub's `whoami` answer that is read here."""

    name: str
    orgs: NotRequired[list[dict[str, str]]]
    auth: NotRequired[dict[str, dict[str, str]]]
