"""Dropout that is the same outside attention in every arm, however many numbers an arm draws inside.

Torch only: an exported model carries a copy of this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_paired_seed: int | None = None


@contextmanager
def site_dropout(seed: int) -> Iterator[None]:
    """Give every arm the same dropout masks outside attention, however many numbers it draws inside.

    Seeds torch's default generators with `seed`; while active, in training, they are reseeded at the entry
    and again at the exit of each attention site. Run the backward pass inside it too where gradient
    checkpointing is on: checkpointing runs the sites again.
    Where much attention is dropped on a CPU, every arm, stock too, draws it in blocks (`attend_in_blocks`).
    """
    global _paired_seed
    _seed(seed)
    before, _paired_seed = _paired_seed, seed
    try:
        yield
    finally:
        _paired_seed = before


def is_paired() -> bool:
    """Whether `site_dropout` is active."""
    return _paired_seed is not None


@contextmanager
def realigned() -> Iterator[None]:
    """Around what an attention site does while `site_dropout` is active: the stream starts from a seed of the
    site, and goes on from another one."""
    # The draw is the same in every arm, because the stream is realigned at the exit of the site before.
    seed = _paired_seed ^ int(torch.randint(2**62, ()))
    _seed(seed % 2**63)
    yield
    _seed(seed % 2**63 + 1)


def _seed(seed: int) -> None:
    """`torch.manual_seed`, without what that does for a device that is not there: on a machine without one
    it formats the call stack each time, 0.1 to 0.4 ms, twice in every site."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
