"""DropHead: whole heads are dropped in training, at a rate that follows its progress."""

import torch
from torch import Tensor

from custom_attention.variant import Call, Site, Variant


class DropHead(Variant):
    """Each head of each example is dropped with probability p, and the others are scaled by 1 / (1 - p).

    Source: Zhou et al. 2020 (arXiv 2004.13342). p falls from `start` to 0 over the first `turn` of training,
    and rises to `end` over the rest. In evaluation it is stock attention.

    Options:
        start: p at the first step
        end: p at the last step
        turn: the share of training after which p is 0
        weights_dropout: whether the model's dropout of single weights stays on
    """

    starts_as_stock = True

    def __init__(
        self,
        site: Site,
        *,
        start: float = 0.2,
        end: float = 0.2,
        turn: float = 0.1,
        weights_dropout: bool = False,
    ) -> None:
        super().__init__(site)
        self.start, self.end, self.turn, self.weights_dropout = start, end, turn, weights_dropout

    def dropout_rate(self, rate: float, call: Call) -> float:
        return rate if self.weights_dropout else 0.0

    def output(self, output: Tensor, call: Call) -> Tensor:
        rate = self._rate(call.progress)
        if not self.training or rate == 0:
            return output
        kept = torch.rand(*output.shape[:2], 1, 1, device=output.device) >= rate
        return output * (kept / (1 - rate)).to(output.dtype)

    def _rate(self, progress: float) -> float:
        if progress < self.turn:
            return self.start * (1 - progress / self.turn)
        return self.end * (progress - self.turn) / max(1 - self.turn, 1e-9)
