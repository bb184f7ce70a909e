"""The manifest of a run that has ended: all that is needed to judge it, compare it and repeat it."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict, cast

from pipelines.comparison.without_model import BaselineRecord
from pipelines.runs.environment import Environment
from pipelines.runs.sources import SourceRecord
from pipelines.storage.run_folder import RunFolder


class MetricRecord(TypedDict):
    """A metric, so that it can be built again."""

    module: str  # file under `metrics/`
    options: dict[str, Any]
    columns: list[str]  # names of its statistics
    signature: str
    higher_is_better: bool
    note: NotRequired[str]  # why it misjudges the texts of the scored split


class DataRecord(TypedDict):
    """The data of a run, by split."""

    hashes: dict[str, str]  # of the examples in order
    rows: NotRequired[dict[str, str]]  # of the examples in any order, under any ids
    num_examples: dict[str, int]
    num_features: dict[str, int]
    counts: dict[str, dict[str, int]]  # what was cut or left out while features were prepared
    skipped: dict[str, int]  # rows that could not be used
    notes: list[str]


class ProofRecord(TypedDict):
    """The fields of `custom_attention.Proof`."""

    max_difference: float
    bound: float
    exact: bool
    starts_as_stock: bool
    reached: int
    expected: int
    passed: bool
    sentence: str


class Manifest(TypedDict):
    """The manifest as `execute` returns it; `RunFolder.finish` writes it with the two last entries."""

    status: Literal["finished", "diverged"]
    run_hash: str
    config: dict[str, Any]  # `RunConfig.to_dict()`
    task: str
    task_state: dict[str, Any]  # what the task learned from its rows
    model_name: str
    model_commit: str | None  # of a model from the Hub
    sources: NotRequired[dict[str, SourceRecord]]  # setting -> what it names on the Hub
    scores: dict[str, dict[str, float]]  # split -> metric -> score
    per_type: dict[str, dict[str, Any]]  # split -> metric -> scores of each type of answer
    metrics: dict[str, MetricRecord]
    baselines: NotRequired[BaselineRecord]  # what needs no model scores
    primary: str  # the metric that chose the best step
    num_parameters: int
    num_trained_parameters: int
    num_variant_parameters: int
    forward_flops: int  # of the first four training features
    num_steps: int
    best_step: int | None
    diverged_at: int | None  # step
    train_seconds: float
    train_cpu_seconds: float
    startup_cpu_seconds: float  # before training, of this rank
    total_seconds: NotRequired[float]
    cpu_seconds: NotRequired[float]  # of this rank
    peak_memory_bytes: int
    proof: ProofRecord
    data: DataRecord
    generation_set_aside: NotRequired[
        dict[str, Any]
    ]  # what of the checkpoint's generation_config is not used
    dropout_paired: bool  # attention drops the same weights in every arm
    batches_hash: str
    environment: Environment
    registration: NotRequired[str]  # seal of the registration that it was trained under
    schema_version: NotRequired[int]
    sha256_of_the_rest: NotRequired[str]  # since 0.2
    files: NotRequired[dict[str, str]]  # path in the run folder -> sha256


def read_manifest(folder: RunFolder) -> Manifest | None:
    """Return the manifest of a run that has ended; None for any other run.

    Raises:
        UserError: it was not written by a run, or it is damaged.
    """
    return cast(Manifest | None, folder.manifest())
