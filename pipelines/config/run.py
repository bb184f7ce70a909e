"""What one run is: every setting, its default, its range and its meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_serializer, model_validator

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Frozen and strict: an unknown key, text for a number, a boolean for text are errors, never guesses."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TaskSpec(Section):
    """A task and its options. In YAML: `ner` or `{name: ner, max_len: 64}`."""

    name: Name
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if not isinstance(value, dict):
            return value
        if value.keys() == {"name", "options"} and isinstance(value["options"], dict):
            return value
        named = {"name": value["name"]} if "name" in value else {}
        return named | {"options": {key: option for key, option in value.items() if key != "name"}}

    @model_serializer
    def _to_yaml(self) -> dict[str, Any]:
        return {"name": self.name, **self.options}


class VariantSpec(Section):
    """An attention variant and its options. In YAML: `gate` or `{temperature: {per: head}}`."""

    name: Name
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and len(value) == 1:
            [(name, options)] = value.items()
            return {"name": name, "options": {} if options is None else options}
        if isinstance(value, VariantSpec) or (
            isinstance(value, dict) and value.keys() == {"name", "options"}
        ):
            return value
        raise ValueError("one variant is a name or {name: {option: value}}")

    @model_serializer
    def _to_yaml(self) -> Any:
        return {self.name: self.options} if self.options else self.name


Attention = Annotated[tuple[VariantSpec, ...], Field(strict=False)]


class GeneratedSpec(Section):
    """A corpus made by a generator under `pipelines/corpora/`: no file, no download."""

    name: Name = Field(description="the generator")
    seed: int = Field(0, ge=0, description="seed of the corpus, independent of the seed of the run")
    train: Count = Field(description="examples to learn from")
    validation: Count = Field(description="examples that choose the checkpoint")
    test: int = Field(0, ge=0, description="examples scored once, at the end; 0: no test split")
    options: dict[str, Any] = Field({}, description="options of the generator")


class DataConfig(Section):
    """Where the examples come from: a Hub dataset (`name`), files (`train`) or a generator (`generated`)."""

    name: Name | None = Field(None, description="dataset id on the Hub, such as leondz/wnut_17")
    config: Name | None = Field(None, description="configuration of the Hub dataset")
    revision: Name | None = Field(None, description="branch, tag or commit of the Hub dataset")
    train: Name | None = Field(
        None,
        description="file to learn from, or rows of one: a.csv[:80%]; with `name`: a split: train[:10%]",
    )
    validation: Name | None = Field(None, description="file or split that chooses the checkpoint")
    test: Name | None = Field(None, description="file or split scored once, at the end")
    generated: GeneratedSpec | None = Field(None, description="a corpus made on the spot")
    format: Literal["parquet", "json", "jsonl", "csv", "tsv", "conll"] | None = Field(
        None, description="format of the files; null: by file name"
    )
    encoding: Name | None = Field(None, description="encoding of text files; null: utf-8")
    columns: dict[str, Name] = Field(
        {}, description="the task's column -> the data's column, where they differ; dots reach into a column"
    )
    streaming: bool = Field(
        False, description="true: rows stay on disk (TMPDIR), for jsonl and parquet larger than memory"
    )
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="skip counts and reports what it skipped")
    publish_text: bool = Field(
        False, description="reports show its texts: only where its licence lets you publish them"
    )
    max_train_examples: Count | None = Field(None, description="use the first so many; null: all")
    max_validation_examples: Count | None = Field(None, description="use the first so many; null: all")
    max_test_examples: Count | None = Field(None, description="use the first so many; null: all")


class ModelConfig(Section):
    """The model: pretrained (`name`) or from scratch (`architecture`)."""

    name: Name | None = Field(
        None, description="folder (relative to this file) or Hub id of a pretrained model"
    )
    revision: Name | None = Field(None, description="branch, tag or commit of the Hub model")
    architecture: Name | None = Field(
        None, description="start from scratch: a model_type of transformers, such as bert, gpt2, t5"
    )
    family: Literal["encoder", "decoder", "encoder_decoder"] = Field(
        description="what the model is: encoder (BERT), decoder (GPT-2) or encoder_decoder (T5)"
    )
    config: dict[str, Any] = Field({}, description="entries of the model's transformers config to change")
    vocab_size: int = Field(
        8000, ge=300, description="from scratch: size of the tokenizer trained on the train split"
    )
    tokenizer: Name | None = Field(
        None, description="folder or Hub id of another tokenizer; null: the model's own"
    )


class WhereConfig(Section):
    """Which attention sites get the variant."""

    kind: Literal["all", "self", "cross"] = Field(
        "all", description="self-attention, cross-attention or both"
    )
    stack: Literal["all", "encoder", "decoder"] = Field(
        "all", description="the stack of an encoder-decoder model"
    )
    layers: str | None = Field(
        None,
        pattern=r"^\s*\d+(\s*-\s*\d+)?(\s*,\s*\d+(\s*-\s*\d+)?)*\s*$",
        description='layers counted from 0, such as "0-3,5"; null: all',
    )

    @field_validator("layers")
    @classmethod
    def _ranges_rise(cls, layers: str | None) -> str | None:
        for part in (layers or "").split(","):
            first, dash, last = part.partition("-")
            if dash and int(first) > int(last):
                raise ValueError(f"the range {part.strip()} runs backwards")
        return layers


class LoraConfig(Section):
    """Low-rank adaptation by PEFT: factors beside the pretrained weights learn, merged in the end."""

    rank: Count = Field(8, description="columns of each factor")
    alpha: float = Field(16, gt=0, description="the factors' product counts alpha / rank times")
    dropout: Fraction = Field(0.0, description="dropout of the factors' input")
    targets: Annotated[tuple[Name, ...], Field(strict=False, min_length=1)] | None = Field(
        None,
        description="layers to adapt, by the ends of their names, such as [query, value]; "
        "null: every linear layer that was pretrained",
    )


class HubConfig(Section):
    """Where the finished run is pushed to, and what happens when the Hub cannot be asked before training."""

    repo: str = Field(
        pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$", description="ORG/NAME; made if it is not there"
    )
    revision: Name = Field("main", description="the branch")
    private: bool = Field(False, description="true: a private repository; a public one is refused")
    license: Name | None = Field(
        None, description="of the model, such as apache-2.0; null: the base model's, where it is known"
    )
    data_license: Name | None = Field(None, description="of the data, for the card")
    on_unreachable: Literal["stop", "train"] = Field(
        "stop", description="when the Hub cannot be asked before training: stop, or train all the same"
    )


class RunConfig(Section):
    """One run of attnlab: one model trained on one task with one attention and one seed."""

    seed: int = Field(
        1, ge=0, description="decides the weights of the head, the order of the data and the dropout"
    )
    task: TaskSpec = Field(description="the task and its options (attnlab ls tasks)")
    data: DataConfig = Field(description="where the examples come from: name, train or generated")
    model: ModelConfig = Field(description="the model: name or architecture")
    attention: Attention = Field(
        (), description="variants in order (attnlab ls variants); []: stock attention"
    )
    where: WhereConfig = Field(WhereConfig(), description="which attention sites get the variant")

    num_epochs: Count = Field(3, description="passes over the train split")
    max_steps: Count | None = Field(
        None, description="stop after so many optimizer steps; null: after num_epochs"
    )
    batch_size: Count = Field(16, description="examples per optimizer step, over all processes")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate of the model")
    weight_decay: float = Field(0.01, ge=0, description="AdamW weight decay of the model (no bias, no norm)")
    variant_learning_rate: float = Field(
        1e-3, gt=0, description="peak learning rate of the variant's parameters"
    )
    variant_weight_decay: float = Field(0.0, ge=0, description="pulls the variant's parameters toward stock")
    lora: LoraConfig | None = Field(
        None, description="train low-rank factors, a new head and the variant alone; null: every weight"
    )
    train_variant: bool = Field(True, description="false: the variant's parameters stay as they start")
    adam_beta1: Fraction = Field(0.9, description="AdamW beta 1")
    adam_beta2: Fraction = Field(0.999, description="AdamW beta 2")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW epsilon")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="learning rate after warm-up"
    )
    warmup_ratio: Fraction = Field(0.0, description="share of all steps in which the learning rate rises")
    max_grad_norm: float | None = Field(1.0, gt=0, description="clip the gradient's norm; null: never")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="arithmetic of the forward pass")
    eval_every_steps: Count | None = Field(
        None, description="score validation so often; null: after each epoch"
    )
    early_stopping_patience: Count | None = Field(
        None, description="stop after so many evaluations without a better one; null: never"
    )
    select_by: Name | None = Field(
        None, description="metric that chooses the checkpoint; null: the task's own"
    )

    # How and where it is computed: never part of the run hash.
    threads: Count = Field(1, description="CPU threads per process")
    processes: Count = Field(1, description="processes that share every step")
    sharding: Literal["none", "fsdp2"] = Field(
        "none", description="fsdp2: each process holds a share of the weights (one GPU is too small)"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda where there is one")
    max_tokens: Count = Field(
        4096, description="padded tokens per micro-batch; changes speed and memory only"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations again in the backward pass: less memory, more time"
    )
    eval_max_tokens: Count = Field(16384, description="padded tokens per batch of an evaluation")
    checkpoint_every_steps: Count | None = Field(None, description="save so often; null: at each evaluation")
    sync_every_steps: Count | None = Field(
        None,
        description="look at loss, gradient norm and stop requests so often; null: 1 on a CPU, 10 on a GPU",
    )
    deterministic: bool = Field(
        False, description="kernels that give the same bits each time, at a cost; a CPU has no others"
    )
    log_every_steps: Count = Field(10, description="write a line to metrics.jsonl so often")
    diagnostics_every_steps: Count | None = Field(
        100, description="describe attention on a probe batch so often (diagnostics.jsonl); null: never"
    )
    trackers: Annotated[tuple[Literal["tensorboard", "trackio", "wandb"], ...], Field(strict=False)] = Field(
        (), description="where metrics go besides metrics.jsonl; each is a package of its own"
    )
    hub: HubConfig | None = Field(None, description="push the run when it is finished; null: do not")

    @field_validator("precision", mode="before")
    @classmethod
    def _no_float16(cls, precision: Any) -> Any:
        if precision in ("float16", "fp16", "half"):
            raise ValueError(
                "attention scores overflow in float16, and its loss scale skips steps, in each arm others; "
                "take bfloat16 or float32"
            )
        return precision

    def to_dict(self) -> dict[str, Any]:
        """Every setting, defaults written out, JSON-able, in the form YAML takes (`run_from_dict`)."""
        return self.model_dump(mode="json")


RUN_EXECUTION_KEYS = frozenset(
    {
        "threads",
        "processes",
        "sharding",
        "device",
        "max_tokens",
        "gradient_checkpointing",
        "eval_max_tokens",
        "checkpoint_every_steps",
        "sync_every_steps",
        "deterministic",
        "log_every_steps",
        "diagnostics_every_steps",
        "trackers",
        "hub",
    }
)
