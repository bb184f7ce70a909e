"""The transfer losses of variants: how they count, what they are, how they join the backward pass.

Needs only torch and the files of this folder: an exported model carries a copy of it and of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from custom_attention.errors import VariantError
from custom_attention.runtime.recomputed import runs_again
from custom_attention.site import Site


class Transfer:
    """The transfer losses of a forward, summed over its sites.

    Each joins the graph at the output of its site, from which the backward pass gives it its gradient. So it
    needs no backward pass of its own, and wrappers of the model see it.

    Args:
        share: factor on the losses in the gradient; the share of this forward in the mean of a step.
        read: which queries of a decoder that reads an encoder are no padding, (batch, len), because no mask
            of cross-attention shows it; the first of the shape of the states counts.
        counted: whether `loss` is summed.

    Attributes:
        loss: the sum so far, without gradient; None: not counted.
    """

    def __init__(self, share: float = 1.0, read: Sequence[Tensor] = (), counted: bool = False) -> None:
        self.share, self.read = share, read
        self.loss: Tensor | float | None = 0.0 if counted else None

    def join(self, output: Tensor, of_queries: Tensor, unpadded: Tensor | None, site: Site) -> Tensor:
        """Return `output`, whose backward pass is also that of the mean of a loss over the queries of each
        example that are no padding, times the share.

        Args:
            of_queries: (batch, query_len).
            unpadded: which queries are no padding by the model's mask, of its shape; None: all.

        Raises:
            VariantError: what is known of a decoder's padding is of other states.
        """
        valid = self._valid(of_queries, unpadded, site)
        sums = torch.where(valid, of_queries.float(), 0.0).sum(1)
        loss = (sums / valid.sum(1).clamp(min=1)).mean()
        if self.loss is not None and not runs_again():
            self.loss = self.loss + loss.detach()
        joined: Tensor = _Joined.apply(output, loss, self.share)
        return joined

    def _valid(self, of_queries: Tensor, unpadded: Tensor | None, site: Site) -> Tensor:
        valid = torch.ones_like(of_queries, dtype=torch.bool) if unpadded is None else unpadded
        if not self.read or site.stack != "decoder":
            return valid
        fitting = [read for read in self.read if read.shape == of_queries.shape]
        if not fitting:
            what = "which of its queries are padding is not known, so its transfer loss has no mean"
            came, accepted = str(tuple(of_queries.shape)), f"{tuple(self.read[0].shape)} queries"
            raise VariantError(site.name, what, came, accepted)
        return valid & fitting[0]


class _Joined(torch.autograd.Function):
    """Gives its first argument; the gradient of the second is a constant."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, loss: Tensor, share: float) -> Tensor:
        ctx.share, ctx.of_loss = share, (loss.shape, loss.dtype)
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        shape, dtype = ctx.of_loss
        return gradient, torch.full(shape, ctx.share, dtype=dtype, device=gradient.device), None
