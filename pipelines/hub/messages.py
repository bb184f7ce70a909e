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


class HardwareRequest(TypedDict):
    """What jobs cost."""

    repo: str  # the bucket or the storage URL of the runs, as in all that follow


class HardwareAnswer(TypedDict):
    """The flavors of jobs."""

    dollars_per_hour: dict[str, float]


class JobPreflightRequest(TypedDict):
    """What the jobs of an ablation will need."""

    repo: str
    bucket: str | None  # None: nothing is mounted
    namespace: str | None  # None: the owner of the token
    secrets: list[str]  # variables of this shell; their values are in no request


class JobPreflightAnswer(HardwareAnswer):
    """What the Hub says before a job is started."""

    namespace: str


class JobState(TypedDict):
    """A job of the Hub."""

    id: str
    stage: str
    message: str
    url: str


class JobsRequest(TypedDict):
    """An ablation, the jobs of it that are known, and the runs that need one."""

    repo: str
    bucket: str | None  # None: nothing is mounted
    namespace: str
    ablation: str  # the label of its jobs
    known: dict[str, str]  # run -> id
    start: list[str]  # names of runs
    image: str
    command: list[str]  # followed by the address of the ablation and the name of the run
    address: Path | str  # of the ablation: its folder in the jobs, or its storage URL
    mount: Path  # of the bucket, in the jobs
    env: dict[str, str]
    secrets: list[str]
    flavor: str
    minutes: int


class JobsAnswer(TypedDict):
    """The newest job of each run, and why the Hub did not do all that was asked for."""

    jobs: dict[str, JobState]
    unavailable: str | None


class WithdrawRequest(TypedDict):
    """An ablation whose waiting jobs are to go."""

    repo: str
    namespace: str
    ablation: str


class WithdrawAnswer(TypedDict):
    """How many jobs went."""

    withdrawn: int


class JobLogRequest(TypedDict):
    """A job, and the secrets whose values its log may hold."""

    repo: str
    namespace: str
    job: str
    secrets: list[str]


class JobLogAnswer(TypedDict):
    """What a job has printed in the end."""

    text: str


class TokenOwner(TypedDict):
    """The part of the Hub's `whoami` answer that is read here."""

    name: str
    orgs: NotRequired[list[dict[str, str]]]
    auth: NotRequired[dict[str, dict[str, str]]]
