"""A mix of softmax and entmax-1.5, whose weights can be exactly zero."""

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class Entmax(Variant):
    """(1 - lambda_h) softmax(s) + lambda_h entmax15(s) with lambda = tanh(a_h), 0 at the start.

    entmax15(s) = max(s/2 - tau, 0)^2 with tau such that a row sums to 1. Sources: Peters et al. 2019 (arXiv
    1905.05702), Correia et al. 2019 (arXiv 1909.00015). It takes the explicit path and sorts every row.
    """

    starts_as_stock = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.mix = nn.Parameter(torch.zeros(site.num_heads, 1, 1))

    def normalize(self, scores: Tensor, call: Call) -> Tensor:
        amount = torch.tanh(self.mix)
        return (1 - amount) * scores.softmax(-1) + amount * entmax15(scores)


def entmax15(scores: Tensor) -> Tensor:
    """Return exact entmax with alpha = 1.5 over the last axis."""
    # A key whose score is 2 below the largest gets exactly 0. So a cut at 4 changes nothing, and it keeps the
    # squares of masked scores finite.
    half = (scores - scores.amax(-1, keepdim=True)).clamp(min=-4) / 2
    with torch.no_grad():
        threshold = _threshold(half)
    # One Newton step from the solution changes no value, and its gradient is the derivative of the threshold.
    root = (half - threshold).clamp(min=0)
    threshold = threshold + ((root**2).sum(-1, keepdim=True) - 1) / (2 * root.sum(-1, keepdim=True)).detach()
    return (half - threshold).clamp(min=0) ** 2


def _threshold(half: Tensor) -> Tensor:
    """Return tau of the largest support whose smallest member is above it (Peters et al., algorithm 2)."""
    ordered = half.sort(-1, descending=True).values
    size = torch.arange(1, half.shape[-1] + 1, device=half.device, dtype=half.dtype)
    mean = ordered.cumsum(-1) / size
    spread = (ordered**2).cumsum(-1) - size * mean**2
    candidates = mean - ((1 - spread) / size).clamp(min=0).sqrt()
    support = (candidates <= ordered).sum(-1, keepdim=True).clamp(min=1)
    return candidates.gather(-1, support - 1)
