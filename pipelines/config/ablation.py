"""What an ablation is: cells x arms x seeds, what is compared and how strictly."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from pipelines.config.run import Attention, Count, Name, RunConfig, Section, WhereConfig
from pipelines.config.yaml_source import merge_values

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False, min_length=1)]
Margin = Annotated[float, Field(gt=0)]


def _file_or_settings(part: Any) -> Any:
    if isinstance(part, dict) or (isinstance(part, str) and part):
        return part
    raise ValueError("a cell lists run files, or settings written in place")


ABLATION_EXECUTION_KEYS = frozenset({"jobs", "executor", "slurm"})  # never part of the ablation's hash
CellPart = Annotated[Any, AfterValidator(_file_or_settings)]


class ArmConfig(Section):
    """One arm: stock or a variant, and what else differs from the cell. In YAML also `[]` or `[gate]`."""

    attention: Attention = Field((), description="variants in order; []: stock attention")
    where: WhereConfig | None = Field(None, description="which sites get the variant; null: as the cell says")
    set: dict[str, Any] = Field({}, description="settings of the run that differ in this arm")
    seed_offset: int = Field(
        0, ge=0, description="added to every seed: a second, independent sample of an arm"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        return {"attention": value} if isinstance(value, str | list) else value


class SearchConfig(Section):
    """Learning rates that every arm of every cell tries, with the same seeds; validation chooses."""

    learning_rate: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...],
        Field(strict=False, min_length=2, description="rates to try, such as [2e-5, 5e-5, 1e-4]"),
    ]
    seeds: Seeds | None = Field(None, description="seeds of the tries; null: the first of the ablation's")

    @field_validator("learning_rate")
    @classmethod
    def _each_once(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(rates)) < len(rates):
            raise ValueError("a learning rate stands in it twice")
        return rates


class SlurmConfig(Section):
    """What jobs ask of Slurm, one job per run."""

    partition: Name | None = Field(None, description="sbatch --partition; null: the cluster's default")
    account: Name | None = Field(None, description="sbatch --account")
    qos: Name | None = Field(None, description="sbatch --qos")
    minutes: Count = Field(
        60, description="time limit of a job; a longer run saves a checkpoint and queues again"
    )
    signal_seconds: Count = Field(
        120,
        description="seconds before the limit at which a run is told; a step and a checkpoint must fit in",
    )
    at_once: Count | None = Field(
        None, description="most jobs at work at a time; null: as many as there is room"
    )
    nodes: Count = Field(1, description="nodes of each run; its processes are dealt out to them")
    gpus: int = Field(0, ge=0, description="GPUs per process")
    cpus: Count | None = Field(None, description="CPUs per process; null: its threads")
    memory_gb: float | None = Field(None, gt=0, description="memory per node; null: the cluster's default")
    setup: Annotated[tuple[Name, ...], Field(strict=False)] = Field(
        (), description="shell lines before the run, such as module load cuda"
    )
    options: dict[Name, str | int | bool] = Field(
        {}, description="further options of sbatch, such as {constraint: a100}"
    )


class AblationBase(Section):
    """What an ablation file and a resolved ablation have in common."""

    arms: dict[Label, ArmConfig] = Field(min_length=1, description="what is compared, by name")
    baseline: Name = Field("stock", description="the arm that the others are compared with")
    seeds: Seeds = Field(description="the seeds, such as [1, 2, 3]: one run of every arm for each")
    primary: dict[Name, Name] = Field(
        {}, description="task -> the metric whose verdict counts; else the task's own"
    )
    margin: dict[Name, Margin] = Field(
        {}, description="metric -> the smallest difference that matters, in points"
    )
    search: SearchConfig | None = Field(
        None, description="learning rates tried by every arm alike; null: the rates that the files state"
    )
    jobs: Count | None = Field(
        None,
        description="runs side by side on this machine; null: one per GPU, or per core where there is none",
    )
    executor: Literal["local", "slurm"] = Field("local", description="where the runs are made")
    slurm: SlurmConfig = Field(SlurmConfig(), description="what jobs ask of Slurm")
    keep: Literal["model", "best_seed", "none"] = Field(
        "best_seed", description="whose weights stay on disk: of every run, of an arm's best seed, of none"
    )


class AblationFile(AblationBase):
    """An ablation as a file states it: cells are lists of run files (or settings written in place)."""

    settings_of: ClassVar = {"set": RunConfig}  # what the free mappings here are settings of

    cells: dict[Label, Annotated[list[CellPart], Field(min_length=1)]] = Field(
        min_length=1, description="model x task combinations by name: run files merged left to right"
    )
    set: dict[str, Any] = Field({}, description="settings of the run, for all cells")


class AblationConfig(AblationBase):
    """An ablation, resolved: every cell is a whole run with stock attention, every path is absolute."""

    cells: dict[Label, RunConfig] = Field(min_length=1)

    def run_config(self, cell: str, arm: str, seed: int, *, learning_rate: float | None = None) -> RunConfig:
        """The run of one cell, arm and seed: the cell, then what the arm says, then the seed.

        `learning_rate` is the one that a search tries or has chosen; None leaves the one that was stated.
        """
        chosen = self.arms[arm]
        values = merge_values(self.cells[cell].to_dict(), chosen.set)
        if chosen.where is not None:
            values["where"] = chosen.where.model_dump(mode="json")
        values["attention"] = [spec.model_dump(mode="json") for spec in chosen.attention]
        values |= {"seed": seed + chosen.seed_offset}
        return RunConfig.model_validate(values | ({"learning_rate": learning_rate} if learning_rate else {}))

    @property
    def search_seeds(self) -> tuple[int, ...]:
        """Seeds of the tries of a search; none where there is no search."""
        return () if self.search is None else self.search.seeds or self.seeds[:1]

    def stated(self) -> dict[str, Any]:
        """What is compared, JSON-able: the whole ablation without where and how its runs are made."""
        return {key: value for key, value in self.to_dict().items() if key not in ABLATION_EXECUTION_KEYS}

    def to_dict(self) -> dict[str, Any]:
        """The whole ablation, JSON-able; `ablation_from_dict` and `load_ablation` read it back exactly."""
        return self.model_dump(mode="json")
