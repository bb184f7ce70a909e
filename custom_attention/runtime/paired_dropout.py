"""Dropout that is the same outside attention in every arm, however many numbers an arm draws inside.

Needs only torch: an exported model carries a copy of this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_paired_seed: int | None = None


@contextmanager
def site_dropout(seed: int) -> Iterator[None]:
    """Give every arm the same dropout masks outside attention, however many numbers it draws inside.

    Seeds torch's default generators with `seed`. While active, in training, they are seeded again at the
    entry and at the exit of each attention site. With gradient checkpointing run the backward pass inside it
    too, because checkpointing runs the sites again.
    On a CPU, large attention calls with dropout are computed by `attend_in_blocks` in every arm, stock
    included.
    """
    global _paired_seed
    _seed(seed)
    before, _paired_seed = _paired_seed, seed
    try:
        yield
    finally:
        _paired_seed = before


def is_paired() -> bool:
    """Return whether `site_dropout` is active."""
    return _paired_seed is not None


@contextmanager
def realigned() -> Iterator[None]:
    """Seed the generators at the entry and at the exit of an attention site, while `site_dropout` is active.

    Each site has its own seed at the entry and another at the exit.
    """
    assert _paired_seed is not None, "realigned() outside of site_dropout()"
    # This draw is equal in every arm, because the exit of the site before seeded the generator.
    seed = _paired_seed ^ int(torch.randint(2**62, ()))
    _seed(seed % 2**63)
    yield
    _seed(seed % 2**63 + 1)


def _seed(seed: int) -> None:
    """Seed as `torch.manual_seed`, but on a machine without an accelerator only the CPU's generator.

    There `torch.manual_seed` formats the call stack each time: 0.1 to 0.4 ms, twice in every site.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
