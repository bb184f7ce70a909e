"""Scores and weights that are mixed across heads."""

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class TalkingHeads(Variant):
    """S' = (I + A) S across heads before the softmax, P' = (I + B) P after it, with A = B = 0 at the start.

    Source: Shazeer et al. 2020 (arXiv 2003.02436). It needs all scores at once: the explicit path.
    """

    starts_as_stock = True
    mixes_heads = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.before = nn.Parameter(torch.zeros(site.num_heads, site.num_heads))
        self.after = nn.Parameter(torch.zeros(site.num_heads, site.num_heads))

    def scores(self, scores: Tensor, call: Call) -> Tensor:
        return scores + torch.einsum("gh,bhqk->bgqk", self.before.to(scores.dtype), scores)

    def normalize(self, scores: Tensor, call: Call) -> Tensor:
        weights = scores.softmax(-1)
        return weights + torch.einsum("gh,bhqk->bgqk", self.after.to(weights.dtype), weights)
