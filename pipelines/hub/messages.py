"""The requests that the worker process takes and the answers that it gives, as JSON objects."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NotRequired, TypeAlias, TypedDict


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
    problem: str  # why this commit dates nothing, as a clause; empty where it does
    unread: str  # why its history could not be read; empty where it was


class DownloadRequest(TypedDict):
    """A repository and a branch, tag or commit of it; None is its main branch."""

    repo: str
    revision: str | None


class DownloadAnswer(TypedDict):
    """A folder in the cache of the Hub's client, and the commit that it holds."""

    folder: str
    commit: str


class CommitRequest(TypedDict):
    """A repository of models or data sets, and a branch or tag of it; None is its main branch."""

    repo: str
    kind: str  # "models" or "datasets"
    revision: str | None
    brief: bool  # whether to give up soon, because there is another answer


class CommitAnswer(TypedDict):
    """The commit that a branch or tag means now."""

    commit: str


# What is taken of a repository, from least to most: parts of a data set, the tokenizer or other processor of
# a model, also its weights as safetensors, every file.
Take: TypeAlias = Literal["data", "processor", "model", "all"]
TAKES: tuple[Take, ...] = ("data", "processor", "model", "all")


class DataPart(TypedDict):
    """A part of a data set: a configuration of its card, or the files in a folder of it."""

    config: str | None
    folder: str | None


class FillRequest(TypedDict):
    """A repository at a branch, tag or commit, and the folder of the mirror that will hold it."""

    repo: str
    kind: str  # "models" or "datasets"
    revision: str
    folder: Path
    parts: list[DataPart]  # of a data set
    take: Take


class FillAnswer(TypedDict):
    """What a folder of the mirror holds now."""

    commit: str
    num_files: int  # of those that were asked for
    num_bytes: int
    num_fetched: int  # files that were not there before


class TokenOwner(TypedDict):
    """The part of the Hub's `whoami` answer that is read here."""

    name: str
    orgs: NotRequired[list[dict[str, str]]]
    auth: NotRequired[dict[str, dict[str, str]]]
