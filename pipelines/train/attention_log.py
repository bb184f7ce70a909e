"""Attention diagnostics along a run: measured on one fixed batch, written to diagnostics.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

import custom_attention
from pipelines.distributed.transfer import to_device
from pipelines.tasks.base import Feature, Task

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pipelines.data.features import Prepared

MOST_FEATURES, MOST_TOKENS = 8, 4096  # of the batch; tokens are counted with padding
DIGITS = 6  # significant digits of every number that is written
SINK_TOKENS = (0,)


class AttentionLog:
    """Diagnostics of a model's attention on one batch, made of the first features of a split.

    Taking them draws no random number and changes no gradient and no mode, so training has the same bits as
    without them.

    Args:
        say: called once with a sentence where the model cannot be diagnosed.
    """

    def __init__(self, task: Task, prepared: Prepared, say: Callable[[str], None]) -> None:
        self.batch = first_batch(task, prepared.features)
        self.say, self.refused = say, False

    def diagnose(self, accelerator: Accelerator, model: PreTrainedModel) -> list[dict[str, object]] | None:
        """Return the diagnostics of every site; None where the attention weights cannot be computed."""
        if self.refused:
            return None
        inputs = to_device(self.batch, accelerator.device)
        try:
            with accelerator.autocast():
                records = custom_attention.diagnose(model, inputs, sink_tokens=SINK_TOKENS)
        except custom_attention.VariantError as error:
            self.refused = True
            self.say(f"no attention diagnostics: {error}")
            return None
        return [{name: rounded(value) for name, value in record.to_dict().items()} for record in records]


def first_batch(task: Task, features: Sequence[Feature]) -> dict[str, torch.Tensor]:
    """Collate the first features of a split to the keyword arguments of one forward of the model."""
    first = [features[index] for index in range(min(MOST_FEATURES, len(features)))]
    lengths = [task.feature_len(feature) for feature in first]
    fitting = [n for n in range(1, len(first) + 1) if n * max(lengths[:n]) <= MOST_TOKENS]
    batch = task.collate(first[: max(fitting, default=1)])
    return {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}


def rounded(value: object) -> object:
    """Round every float of a JSON value to `DIGITS` significant digits."""
    if isinstance(value, Mapping):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
