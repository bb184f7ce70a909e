"""What attention does along a run: one fixed batch, looked at now and then, written to diagnostics.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

import custom_attention
from pipelines.distributed.transfer import to_device
from pipelines.tasks.base import Feature, Task

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pipelines.data.features import Prepared

MOST_FEATURES, MOST_TOKENS = 8, 4096  # of the probe batch, the tokens padded
DIGITS = 6  # of every number that is kept
SINK_TOKENS = (0,)


class AttentionLog:
    """The first features of a split as one batch, and what the attention of a model does with it.

    It takes no random number, leaves no gradient and no mode changed, so training goes on bit for bit as
    without it.
    """

    def __init__(self, task: Task, prepared: Prepared, say: Callable[[str], None]) -> None:
        self.batch = first_batch(task, prepared.features)
        self.say, self.refused = say, False

    def look(self, accelerator: Accelerator, model: torch.nn.Module) -> list[dict[str, Any]] | None:
        """Diagnostics of every site; None, said once, where this model's weights cannot be known."""
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
        return [rounded(record.to_dict()) for record in records]


def first_batch(task: Task, features: Sequence[Feature]) -> dict[str, torch.Tensor]:
    """The first features of a split as keyword arguments of one forward of the model."""
    first = [features[index] for index in range(min(MOST_FEATURES, len(features)))]
    lengths = [task.feature_len(feature) for feature in first]
    fitting = [n for n in range(1, len(first) + 1) if n * max(lengths[:n]) <= MOST_TOKENS]
    batch = task.collate(first[: max(fitting, default=1)])
    return {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}


def rounded(value: Any) -> Any:
    """The same JSON value with `DIGITS` significant digits."""
    if isinstance(value, Mapping):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
