"""The schema of a run: every setting with its default, its range and its meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_serializer, model_validator

from pipelines.config.data import DataConfig
from pipelines.config.section import Count, Fraction, Name, Names, Section

# A word, or a weight for each label.
Weights = Annotated[
    Annotated[Literal["balanced"], Tag("(word)")]
    | Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=2), Tag("(list)")],
    Discriminator(lambda value: "(list)" if isinstance(value, list | tuple) else "(word)"),
]


class TaskSpec(Section):
    """A task and its options. In YAML: `ner` or `{name: ner, max_len: 64}`."""

    name: Name
    options: dict[str, Any] = Field({})

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
    options: dict[str, Any] = Field({})

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


class ModelConfig(Section):
    """The model: pretrained (`name`) or from scratch (`architecture`)."""

    name: Name | None = Field(
        None, description="folder (relative to this file) or Hub id of a pretrained model"
    )
    revision: Name | None = Field(None, description="branch, tag or commit of the Hub model")
    architecture: Name | None = Field(
        None, description="train from scratch: a model_type of transformers, such as bert, gpt2, t5"
    )
    family: Literal["encoder", "decoder", "encoder_decoder"] = Field(
        description="kind of model: encoder (BERT), decoder (GPT-2) or encoder_decoder (T5)"
    )
    config: dict[str, Any] = Field({}, description="entries to change in the model's transformers config")
    vocab_size: int = Field(
        8000,
        ge=300,
        description="from scratch: vocabulary size of the tokenizer, which is trained on the train split",
    )
    tokenizer: Name | None = Field(
        None, description="folder or Hub id of another tokenizer; null: the model's own"
    )


class WhereConfig(Section):
    """Which attention sites get the variant."""

    kind: Literal["all", "self", "cross", "merged"] = Field(
        "all",
        description="self-attention, cross-attention, merged attention (both in one call, T5Gemma 2) or all",
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
                raise ValueError(f"the range {part.strip()} is backwards")
        return layers


class LoraConfig(Section):
    """Low-rank adaptation with PEFT: factors beside the pretrained weights are trained, then merged."""

    rank: Count = Field(8, description="columns of each factor")
    alpha: float = Field(16, gt=0, description="the product of the factors is scaled by alpha / rank")
    dropout: Fraction = Field(0.0, description="dropout on the input of the factors")
    targets: Annotated[tuple[Name, ...], Field(strict=False, min_length=1)] | None = Field(
        None,
        description="layers to adapt, by the ends of their names, such as [query, value]; "
        "null: every pretrained linear layer",
    )


class HubConfig(Section):
    """Where the finished run is pushed, and what happens if the Hub is unreachable before training."""

    repo: str = Field(
        pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$",
        description="ORG/NAME; created if it does not exist",
    )
    revision: Name = Field("main", description="branch to push to")
    private: bool = Field(False, description="true: a private repository; a public one is refused")
    license: Name | None = Field(
        None,
        description="licence of the model, such as apache-2.0; null: that of the base model, if known",
    )
    data_license: Name | None = Field(None, description="licence of the data, for the model card")
    on_unreachable: Literal["stop", "train"] = Field(
        "stop", description="if the Hub is unreachable before training: stop, or train anyway"
    )


class RunConfig(Section):
    """One run of attnlab: one model trained on one task with one attention and one seed."""

    seed: int = Field(1, ge=0, description="seed of the new weights, of the order of the data and of dropout")
    task: TaskSpec = Field(description="the task and its options (attnlab ls tasks)")
    data: DataConfig = Field(description="where the examples come from: name, train or generated")
    model: ModelConfig = Field(description="the model: name or architecture")
    attention: Attention = Field(
        (), description="variants in order (attnlab ls variants); []: stock attention"
    )
    where: WhereConfig = Field(WhereConfig(), description="which attention sites get the variant")

    num_epochs: Count = Field(3, description="passes over the train split")
    max_steps: Count | None = Field(
        None, description="stop after this many optimizer steps; null: after num_epochs"
    )
    batch_size: Count = Field(16, description="examples per optimizer step, over all processes")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate of the model")
    weight_decay: float = Field(0.01, ge=0, description="weight decay of the model (no bias, no norm)")
    variant_learning_rate: float = Field(
        1e-3, gt=0, description="peak learning rate of the variant's parameters"
    )
    variant_weight_decay: float = Field(
        0.0, ge=0, description="weight decay of the variant's parameters, toward stock attention"
    )
    lora: LoraConfig | None = Field(
        None, description="train only low-rank factors, a new head and the variant; null: train every weight"
    )
    train_variant: bool = Field(True, description="false: the variant's parameters keep their initial values")
    freeze: Names = Field(
        (),
        description="modules that are not trained, by the ends of their names, such as "
        "[embeddings, layer.0]; * stands for anything",
    )
    optimizer: Literal["adamw", "adafactor", "sgd", "muon"] = Field(
        "adamw",
        description="adafactor: with learning_rate as it is; muon: for the matrices of the layers, adamw for "
        "all else",
    )
    adam_beta1: Fraction = Field(0.9, description="beta 1 of adamw")
    adam_beta2: Fraction = Field(0.999, description="beta 2 of adamw")
    adam_epsilon: float = Field(1e-8, gt=0, description="epsilon of adamw")
    momentum: Fraction | None = Field(
        None, description="momentum of sgd and muon; null: 0 for sgd, 0.95 for muon"
    )
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="learning rate after warm-up"
    )
    warmup_ratio: Fraction = Field(0.0, description="fraction of all steps in which the learning rate rises")
    warmup_steps: int | None = Field(
        None, ge=0, description="number of steps in which the learning rate rises; null: by warmup_ratio"
    )
    max_grad_norm: float | None = Field(
        1.0, gt=0, description="largest norm of the gradient, which is clipped above; null: no clipping"
    )
    dropout: Fraction | None = Field(
        None, description="dropout wherever the model's config states one; null: as its config says"
    )
    label_smoothing: Fraction = Field(
        0.0, description="share of every target that is spread over all labels, in training only"
    )
    class_weights: Weights | None = Field(
        None,
        description="factors on the training loss of each label, in the order of task.labels; balanced: "
        "inverse to the labels' counts in train",
    )
    precision: Literal["float32", "bfloat16"] = Field("float32", description="arithmetic of the forward pass")
    kernel: Literal["flex", "flash"] | None = Field(
        None,
        description="an attention kernel of a GPU, not measured yet: PyTorch's FlexAttention, or "
        "its flash attention in bfloat16; null: the model's own",
    )
    eval_every_steps: Count | None = Field(
        None, description="steps between two evaluations on validation; null: after each epoch"
    )
    early_stopping_patience: Count | None = Field(
        None, description="stop after this many evaluations without improvement; null: never"
    )
    select_by: Name | None = Field(
        None, description="metric that chooses the checkpoint; null: the task's own"
    )

    # How and where the run is computed: never part of its hash.
    threads: Count = Field(1, description="CPU threads per process")
    processes: Count = Field(1, description="processes that share every step")
    sharding: Literal["none", "fsdp2"] = Field(
        "none",
        description="fsdp2: each process holds a share of the weights, for models too large for one GPU",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: cuda where there is a GPU, else cpu"
    )
    max_tokens: Count = Field(
        4096, description="padded tokens per micro-batch; changes speed and memory only"
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory, more time"
    )
    eval_max_tokens: Count = Field(16384, description="padded tokens per evaluation batch")
    checkpoint_every_steps: Count | None = Field(
        None, description="steps between two checkpoints; null: at each evaluation"
    )
    sync_every_steps: Count | None = Field(
        None,
        description="steps between checks of loss, gradient norm and stop requests; null: CPU 1, GPU 10",
    )
    deterministic: bool = Field(
        False,
        description="true: reproducible kernels only, slower on a GPU; those of a CPU always are",
    )
    log_every_steps: Count = Field(10, description="steps between two lines in metrics.jsonl")
    diagnostics_every_steps: Count | None = Field(
        100,
        description="steps between diagnostics of attention on one batch (diagnostics.jsonl); null: never",
    )
    trackers: Annotated[
        tuple[Literal["tensorboard", "trackio", "wandb", "mlflow"], ...], Field(strict=False)
    ] = Field((), description="trackers that receive the metrics too; each is a package to install")
    hub: HubConfig | None = Field(None, description="push the finished run to the Hub; null: do not push")

    @field_validator("warmup_steps", mode="before")
    @classmethod
    def _no_share(cls, steps: Any) -> Any:
        if isinstance(steps, float) and 0 < steps < 1:
            raise ValueError("a share of the steps is warmup_ratio")
        return steps

    @field_validator("precision", mode="before")
    @classmethod
    def _no_float16(cls, precision: Any) -> Any:
        if precision in ("float16", "fp16", "half"):
            raise ValueError(
                "attention scores overflow in float16, and its loss scaling skips other steps in each arm; "
                "use bfloat16 or float32"
            )
        return precision

    def to_dict(self) -> dict[str, Any]:
        """Return every setting, with defaults, JSON-able; `run_from_dict` and YAML files take it back."""
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
