"""Where the tokens of a padded batch are, and how states go between the batch and one row of its tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.distributed.transfer import send
from pipelines.tasks.shared.target_loss import IGNORED


def up_to_last_target(labels: object) -> Tensor | None:
    """Return the mask of the positions of a decoder that some target depends on; None if labels have none.

    What a decoder that reads an encoder gives after the last target of an example, no loss reads.
    """
    if not isinstance(labels, Tensor) or labels.ndim != 2:
        return None
    return (labels != IGNORED).flip(1).cummax(1).values.flip(1)


@dataclass(frozen=True)
class TokenLayout:
    """The positions of the tokens of a padded batch."""

    batch: int
    length: int  # of the padded batch
    rows: Tensor  # (num_tokens,): positions of the tokens in the flattened (batch * length)
    ends: list[int]  # of each example, the position after its last token

    @classmethod
    def of(cls, mask: Tensor, device: torch.device) -> TokenLayout:
        """Return the layout of a mask `(batch, length)`, 0 at padding; `rows` is sent to `device`."""
        batch, length = mask.shape
        places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        rows = mask.flatten().nonzero().flatten()
        ends = (mask.bool() * places).amax(1).tolist()
        return cls(batch, length, send(rows, device), ends)

    @property
    def num_padding(self) -> int:
        return self.batch * self.length - len(self.rows)

    def fits(self, states: Tensor) -> bool:
        """Return whether these are states of the padded batch."""
        return states.shape[:2] == (self.batch, self.length)

    def pack(self, states: Tensor) -> Tensor:
        """Remove padding: `(batch, length, ...)` -> `(1, num_tokens, ...)`."""
        if not self.fits(states):
            raise ValueError(f"not the states of this batch: {tuple(states.shape)}")
        return states.flatten(0, 1).index_select(0, self.rows)[None]

    def spread(self, tokens: Tensor) -> Tensor:
        """Put tokens back: `(1, num_tokens, ...)` -> `(batch, length, ...)`, zero at padding."""
        states = tokens.new_zeros(self.batch * self.length, *tokens.shape[2:])
        return states.index_add_(0, self.rows, tokens[0]).unflatten(0, (self.batch, self.length))
