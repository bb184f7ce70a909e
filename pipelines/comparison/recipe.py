"""The recipe of results.json as types: how the baseline of a cell was trained, and what each arm changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """A setting that an arm has otherwise than the baseline; files are named without their folders."""

    setting: str  # "attention", "learning_rate", "model.config.dropout"
    baseline: object
    arm: object


@dataclass(frozen=True)
class ArmRecipe:
    """What an arm is in a cell."""

    changes: tuple[Change, ...]  # empty for the baseline, and for an arm that is the same run
    yaml: str  # its entry under `arms:`


@dataclass(frozen=True, kw_only=True)
class CellRecipe:
    """How the baseline of a cell was trained; an arm was trained alike but for its changes."""

    task: str
    task_options: Mapping[str, object]
    model: str
    model_revision: str | None
    family: str
    model_config: Mapping[str, object]  # entries changed in the model's config
    data: str
    data_revision: str | None
    num_examples: Mapping[str, int]  # split -> examples
    num_epochs: int
    max_steps: int | None
    batch_size: int
    learning_rate: float
    schedule: str
    warmup_ratio: float
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    max_grad_norm: float | None
    precision: str
    lora_rank: int | None
    seeds: tuple[int, ...]
    attention: str  # of the baseline, in words
    arms: Mapping[str, ArmRecipe]
    # Settings that came later: a file leaves them out where they are the default.
    optimizer: str = "adamw"
    momentum: float | None = None
    warmup_steps: int | None = None
    dropout: float | None = None
    label_smoothing: float = 0.0
    class_weights: str | tuple[float, ...] | None = None
    freeze: tuple[str, ...] = ()
