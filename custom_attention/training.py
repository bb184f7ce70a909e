"""What a training loop does for attached variants: tell them its progress, add their losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from custom_attention.attach import attached
from custom_attention.runtime.transfer import Transfer

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


def has_transfer(model: nn.Module) -> bool:
    """Return whether a variant has a transfer loss."""
    return any(stack.having("transfer") for _, stack in attached(model))


@contextmanager
def transferring(model: nn.Module, share: float = 1.0, read: Sequence[Tensor] = ()) -> Iterator[Transfer]:
    """Let the transfer losses of the variants count as `share` says, in the forward inside the block.

    The backward pass of the model's outputs is theirs too: add nothing to the loss. Without a block each
    forward in training counts as 1.0. With gradient checkpointing run the backward pass inside it.

    Args:
        share: of this forward in the mean of a step: its examples by those of the step, or by those that a
            process has, where gradients are averaged over processes.
        read: for a decoder that reads an encoder, which of its positions are no padding, (batch, len)
            booleans, of which the first that fits counts; none: all are read.

    Yields:
        What they were: `loss` is the sum over the sites of the mean over the examples.
    """
    states = {id(stack.state): stack.state for _, stack in attached(model)}.values()
    before = [state.transfer for state in states]
    transfer = Transfer(share, read, counted=True)
    try:
        for state in states:
            state.transfer = transfer
        yield transfer
    finally:
        for state, own in zip(states, before):
            state.transfer = own


def trainer_callback(resume_from: str | Path | None = None) -> TrainerCallback:
    """Return a callback for `Trainer(callbacks=[...])` that saves and restores the variants' parameters.

    Args:
        resume_from: the checkpoint that `train(resume_from_checkpoint=...)` is given, if it is not in the
            output folder of this training.
    """
    from custom_attention.trainer import VariantCheckpoints  # imports PEFT, which other loops do not need

    return VariantCheckpoints(resume_from)
