"""What a training loop does for attached variants: tell them its progress, add their penalty."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from custom_attention.attach import attached

if TYPE_CHECKING:
    from transformers import TrainerCallback


def set_progress(model: nn.Module, progress: float) -> None:
    """Tell the variants of a model how far training is: 0.0 at the first step, 1.0 at the last.

    Call it before each forward with a function of the step, so that a resumed run has the same schedule. The
    last value is saved with the model, if a variant follows it.
    """
    for _, stack in attached(model):
        stack.state.progress = progress


def progress_of(model: nn.Module) -> float | None:
    """Return how far training is, None where no variant follows it."""
    states = (stack.state for _, stack in attached(model))
    return next((state.progress for state in states if state.follows_progress), None)


def penalty(model: nn.Module) -> Tensor | None:
    """Return the sum of the penalties of all attached variants, None where no variant has one.

    It depends on parameters only: add it once to the loss of an optimizer step, which is a mean, whatever the
    number of its micro-batches and processes.
    """
    total: Tensor | None = None
    for _, stack in attached(model):
        for variant in stack.having("penalty"):
            part = variant.penalty()
            total = part if total is None else total + part
    return total


def trainer_callback(resume_from: str | Path | None = None) -> TrainerCallback:
    """Return a callback for `Trainer(callbacks=[...])` that saves and restores the variants' parameters.

    Args:
        resume_from: the checkpoint that `train(resume_from_checkpoint=...)` is given, if it is not in the
            output folder of this training.
    """
    from custom_attention.trainer import VariantCheckpoints  # imports PEFT, which other loops do not need

    return VariantCheckpoints(resume_from)
