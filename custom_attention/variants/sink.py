"""A learned sink: the weights of a head may sum to less than 1."""

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class Sink(Variant):
    """P (1 - lambda_h (1 - sigmoid(lse_i - s_h))) v: softmax at lambda = 0, with a sink score s_h at 1.

    lse_i is the logsumexp of row i, and lambda = tanh(a_h) is 0 at the start: a sink score low enough for an
    exact start would get no gradient. Sources: gpt-oss (arXiv 2508.10925); with s = 0, softmax-off-by-one
    (arXiv 2404.03828). It takes the explicit path.
    """

    starts_as_stock = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.mix = nn.Parameter(torch.zeros(site.num_heads, 1, 1))
        self.score = nn.Parameter(torch.zeros(site.num_heads, 1, 1))

    def normalize(self, scores: Tensor, call: Call) -> Tensor:
        kept = torch.sigmoid(torch.logsumexp(scores, -1, keepdim=True) - self.score)
        return scores.softmax(-1) * (1 - torch.tanh(self.mix) * (1 - kept))
