"""The entries of a run's records that readers rely on, with their types at every level.

They are checked whenever a record is read: it may be damaged, of an earlier version, or foreign.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12


class TaskSettings(TypedDict):
    """The task of a run; its other entries are options."""

    name: str


class ModelSettings(TypedDict):
    """The model of a run: a name or an architecture."""

    name: str | None
    architecture: NotRequired[str | None]
    tokenizer: NotRequired[str | None]
    revision: NotRequired[str | None]
    family: str


class DataSettings(TypedDict):
    """The data of a run: a name, files, or a generated corpus."""

    name: NotRequired[str | None]
    train: NotRequired[str | dict[str, str] | None]  # a dict names files of parallel text
    validation: NotRequired[str | dict[str, str] | None]
    test: NotRequired[str | dict[str, str] | None]
    generated: NotRequired[dict[str, Any] | None]


class Settings(TypedDict):
    """The part of a run's configuration that is read without building it again."""

    task: TaskSettings
    data: DataSettings
    model: ModelSettings
    attention: list[str | dict[str, Any]]
    seed: int


class MetricEntry(TypedDict):
    """A metric, so that it can be built again."""

    module: str
    options: dict[str, Any]
    columns: list[str]
    signature: str
    higher_is_better: bool


class DataEntry(TypedDict):
    """The data that a run has read."""

    hashes: NotRequired[dict[str, str]]
    rows: NotRequired[dict[str, str]]
    counts: NotRequired[dict[str, dict[str, int]]]


class ProofEntry(TypedDict, total=False):
    """The comparison with stock attention before the first step."""

    max_difference: float | None
    bound: float | None
    exact: bool
    starts_as_stock: bool
    reached: int
    expected: int
    passed: bool
    sentence: str


class ManifestEntries(TypedDict):
    """`manifest.json`."""

    status: Literal["finished", "diverged"]
    run_hash: str
    config: Settings
    task_state: dict[str, Any]
    scores: dict[str, dict[str, float]]
    metrics: dict[str, MetricEntry]
    primary: str
    data: DataEntry
    environment: dict[str, Any]
    files: dict[str, str]  # path in the run folder -> sha256
    proof: NotRequired[ProofEntry | None]
    num_parameters: NotRequired[int | None]
    num_trained_parameters: NotRequired[int | None]
    num_variant_parameters: NotRequired[int | None]
    forward_flops: NotRequired[float | None]
    num_steps: NotRequired[int | None]
    best_step: NotRequired[int | None]
    diverged_at: NotRequired[int | None]
    train_seconds: NotRequired[float | None]
    train_cpu_seconds: NotRequired[float | None]
    startup_cpu_seconds: NotRequired[float | None]
    total_seconds: NotRequired[float | None]
    cpu_seconds: NotRequired[float | None]
    peak_memory_bytes: NotRequired[float | None]
    batches_hash: NotRequired[str]
    model_name: NotRequired[str | None]
    model_commit: NotRequired[str | None]


class ComparedMetric(TypedDict):
    """The part of a metric that a comparison reads."""

    module: str
    options: dict[str, Any]
    columns: list[str]


class ComparedEntries(TypedDict):
    """The part of `manifest.json` that a comparison reads."""

    metrics: dict[str, ComparedMetric]
    scores: NotRequired[dict[str, dict[str, float]]]
    files: NotRequired[dict[str, str]]


class IdentityEntries(TypedDict):
    """`identity.json`."""

    numerics: int
    config: dict[str, Any]
    sources: dict[str, str]


class Event(TypedDict):
    """A line of `metrics.jsonl`."""

    step: int
    event: NotRequired[str]
    epoch: NotRequired[float]
    loss: NotRequired[float | str | None]  # a number that is not finite is logged as text
    seconds: NotRequired[float]


class SiteEntry(TypedDict):
    """The diagnostics of one attention site."""

    layer: int
    stack: str
    kind: str
    entropy: list[float | None]
    sink_mass: list[float | None]
    gate: dict[str, list[float | None]] | None
    learned: dict[str, list[float | None]]


class DiagnosticsEntry(TypedDict):
    """A line of `diagnostics.jsonl`."""

    step: int
    final: bool
    sites: list[SiteEntry]


class PredictionEntry(TypedDict):
    """A line of `predictions.<split>.jsonl`."""

    id: str | int
    prediction: Any
    reference: Any
