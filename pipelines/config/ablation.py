"""The schema of an ablation: cells x arms x seeds, what is compared and with which margin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from pipelines.config.engines import HfJobsConfig, KubernetesConfig, RayConfig, SlurmConfig, StorageUrl
from pipelines.config.executor_names import ExecutorName
from pipelines.config.run import Attention, RunConfig, VariantSpec, WhereConfig
from pipelines.config.section import Count, Name, Section
from pipelines.config.yaml_source import merge_values

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False, min_length=1)]
Margin = Annotated[float, Field(gt=0)]
Rates = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=2)]
# A value of an option; a word stands in the names of runs, so it has neither blanks nor slashes.
OptionValue = bool | int | float | Annotated[str, Field(pattern=r"^[\w.:+-]+$")]
OptionValues = Annotated[tuple[OptionValue, ...], Field(strict=False, min_length=2)]


def _file_or_settings(part: Any) -> Any:
    if isinstance(part, dict) or (isinstance(part, str) and part):
        return part
    raise ValueError("a cell is a list of run files or of settings")


ABLATION_EXECUTION_KEYS = frozenset(
    {"anchor", "jobs", "executor", "store", "slurm", "ray", "kubernetes", "hf_jobs"}
)  # never part of the ablation's hash
CellPart = Annotated[Any, AfterValidator(_file_or_settings)]


class ArmConfig(Section):
    """One arm: stock attention or variants, and other changes to the cell. In YAML also `[]` or `[gate]`."""

    attention: Attention = Field((), description="variants in order; []: stock attention")
    where: WhereConfig | None = Field(None, description="which sites get the variant; null: as in the cell")
    set: dict[str, Any] = Field({}, description="settings of the run to change in this arm")
    seed_offset: int = Field(
        0, ge=0, description="number added to every seed, for a second, independent sample of an arm"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        return {"attention": value} if isinstance(value, str | list) else value


class SearchConfig(Section):
    """Settings to try for every arm of every cell, with the same seeds; validation chooses."""

    learning_rate: Rates | None = Field(
        None, description="learning rates to try, such as [2e-5, 5e-5, 1e-4]; null: that of the arm"
    )
    variant_learning_rate: Rates | None = Field(
        None, description="learning rates of the variant to try in the arms that train one"
    )
    options: dict[Name, OptionValues] = Field(
        {}, description="options of variants to try: VARIANT.OPTION -> values, {gate.start: [zero, small]}"
    )
    seeds: Seeds | None = Field(
        None, description="seeds of the trial runs; null: the first seed of the ablation"
    )

    @field_validator("learning_rate", "variant_learning_rate")
    @classmethod
    def _each_rate_once(cls, rates: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if rates is not None and len(set(rates)) < len(rates):
            raise ValueError("a learning rate is in the list twice")
        return rates

    @field_validator("options")
    @classmethod
    def _each_value_once(cls, options: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for name, values in options.items():
            if len({repr(value) for value in values}) < len(values):
                raise ValueError(f"a value of {name} is in the list twice")
        return options

    @model_validator(mode="after")
    def _searches_something(self) -> SearchConfig:
        if not (self.learning_rate or self.variant_learning_rate or self.options):
            raise ValueError("it names nothing to try: learning_rate, variant_learning_rate or options")
        return self

    @model_serializer(mode="wrap")
    def _stated(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not searched: earlier versions searched the learning rate alone."""
        return {name: value for name, value in handler(self).items() if name == "seeds" or value}


class StoppingConfig(Section):
    """When no more seeds are added: once every primary comparison is settled, or at the most."""

    rule: Literal["sequential"] = Field(
        "sequential", description="look after every seed, with wider intervals"
    )
    most_seeds: int = Field(
        20, ge=4, le=50, description="most seeds of each arm; the intervals of all looks hold together"
    )
    first_seeds: Count | None = Field(
        None, description="how many seeds were declared; attnlab sets it where it adds others"
    )


class PaperConfig(Section):
    """The published claim that an ablation file asks again; part of the file, not of what is compared."""

    title: Name
    source: Name = Field(description="where to read it, such as arXiv:2410.17897")
    claim: Name = Field(description="what the paper says, in one sentence")
    number: Name = Field(description="the figure behind the claim, and where it stands in the paper")
    recipe: Name = Field(description="model, data and training of the paper")
    differs: Name = Field(description="what of it this file cannot or does not repeat")


class AblationBase(Section):
    """The settings that an ablation file and a resolved ablation share."""

    arms: dict[Label, ArmConfig] = Field(min_length=1, description="the arms to compare, by name")
    baseline: Name = Field("stock", description="the arm that all others are compared with")
    seeds: Seeds = Field(description="seeds, such as [1, 2, 3]; every arm is run once with each")
    primary: dict[Name, Name] = Field(
        {}, description="task -> its primary metric, which decides the verdict; else the task's default"
    )
    margin: dict[Name, Margin] = Field(
        {}, description="metric -> the smallest difference that matters, in points"
    )
    collapse: dict[Name, Margin] = Field(
        {},
        description="metric -> the fall of a seed to exclude before a difference is more than usual; else to "
        "the score without a model",
    )
    by: Literal["family", "task", "size"] | None = Field(
        None, description="what the summary over cells compares: groups of family, task or size; null: none"
    )
    assay: Name | None = Field(
        None,
        description="name of an arm of known harm, or such an arm: unless it is found, none is equivalent",
    )
    stopping: StoppingConfig | None = Field(
        None, description="add seeds until the comparisons are settled; null: the seeds of the file, once"
    )
    search: SearchConfig | None = Field(
        None, description="settings to try for every arm; null: use those of the files"
    )
    anchor: Annotated[str, Field(pattern=r"^(git|hub:[^/@\s]+/[^/@\s]+|https?://[^@\s]+)$")] | None = Field(
        None,
        description="what dates the registration before the first run: git (a commit in the repository of "
        "the working folder), hub:ORG/NAME (an empty repository), or the URL of an authority (time stamp by "
        "RFC 3161); null: nothing",
    )
    jobs: Count | None = Field(
        None,
        description="runs at the same time on this machine; null: one per GPU, or one per core without GPUs",
    )
    executor: ExecutorName = Field("local", description="where the runs are executed")
    store: StorageUrl | None = Field(
        None,
        description="storage URL of the run folders, for machines that share no file system, such as "
        "s3://BUCKET/runs, gs://BUCKET/runs or hf://buckets/ORG/NAME/runs; null: beside --out",
    )
    slurm: SlurmConfig = Field(SlurmConfig(), description="settings of the Slurm jobs")
    ray: RayConfig = Field(RayConfig(), description="settings of the Ray tasks")
    kubernetes: KubernetesConfig = Field(KubernetesConfig(), description="settings of the Kubernetes Job")
    hf_jobs: HfJobsConfig = Field(HfJobsConfig(), description="settings of the HF Jobs")
    keep: Literal["model", "best_seed", "none"] = Field(
        "best_seed", description="which weights are kept: of every run, of the best seed of each arm, or none"
    )

    @property
    def compared(self) -> tuple[str, ...]:
        """The arms that are compared with the baseline: not the baseline, and not the assay."""
        return tuple(arm for arm in self.arms if arm not in (self.baseline, self.assay))


class AblationFile(AblationBase):
    """An ablation file: its cells are lists of run files or of settings."""

    settings_of: ClassVar = {"set": RunConfig}  # the schema of the settings in a free mapping

    cells: dict[Label, Annotated[list[CellPart], Field(min_length=1)]] = Field(
        min_length=1, description="model x task combinations, by name: run files, merged left to right"
    )
    set: dict[str, Any] = Field({}, description="settings of the run to change in all cells")
    paper: PaperConfig | None = Field(None, description="the published claim that is asked again")
    scales: dict[Label, dict[str, Any]] = Field(
        {}, description="other sizes of the same question: name -> the sections of this file that it replaces"
    )
    scale: Name | None = Field(None, description="the one of scales to use; null: the file as it stands")


class AblationConfig(AblationBase):
    """A resolved ablation: every cell is a whole run with stock attention, every path is absolute."""

    cells: dict[Label, RunConfig] = Field(min_length=1)

    def with_next_seed(self) -> AblationConfig:
        """Return the ablation with one more seed, the next number, as its stopping rule adds it."""
        assert self.stopping is not None
        first = self.stopping.first_seeds or len(self.seeds)
        stopping = self.stopping.model_copy(update={"first_seeds": first})
        return self.model_copy(update={"seeds": (*self.seeds, max(self.seeds) + 1), "stopping": stopping})

    @property
    def declared_seeds(self) -> tuple[int, ...]:
        """The seeds that were declared; a stopping rule may have added others."""
        first = self.stopping.first_seeds if self.stopping is not None else None
        return self.seeds[:first]

    def run_config(
        self, cell: str, arm: str, seed: int, *, searched: Mapping[str, Any] | None = None
    ) -> RunConfig:
        """Return the run of one cell, arm and seed: the cell, changed by the arm, with the seed.

        Args:
            searched: what a search tries or has chosen, by setting of the run or VARIANT.OPTION.
        """
        chosen = self.arms[arm]
        values = merge_values(self.cells[cell].to_dict(), chosen.set)
        if chosen.where is not None:
            values["where"] = chosen.where.model_dump(mode="json")
        given, options = dict(searched or {}), dict[str, dict[str, Any]]()
        for name in [name for name in given if "." in name]:
            variant, _, option = name.rpartition(".")
            options.setdefault(variant, {})[option] = given.pop(name)
        values["attention"] = [
            VariantSpec(name=spec.name, options={**spec.options, **options.get(spec.name, {})}).model_dump()
            for spec in chosen.attention
        ]
        return RunConfig.model_validate({**values, "seed": seed + chosen.seed_offset, **given})

    @property
    def search_seeds(self) -> tuple[int, ...]:
        """Seeds of the trial runs of a search; none without a search."""
        return () if self.search is None else self.search.seeds or self.seeds[:1]

    def stated(self) -> dict[str, Any]:
        """Return what is compared, JSON-able: the ablation without the settings of execution.

        What an earlier version stored lacks the settings that came later; they are left out where they change
        nothing, so that the hash of the ablation stays what it was.
        """
        later: dict[str, Any] = {"assay": None, "collapse": {}, "by": None, "stopping": None}
        values = {
            key: value
            for key, value in self.to_dict().items()
            if key not in ABLATION_EXECUTION_KEYS and (key not in later or value != later[key])
        }
        cells = {name: cell.model_dump(mode="json", exclude_unset=True) for name, cell in self.cells.items()}
        return values | {"cells": cells}

    def to_dict(self) -> dict[str, Any]:
        """Return the whole ablation, JSON-able; `ablation_from_dict` and `load_ablation` read it back."""
        return self.model_dump(mode="json")
