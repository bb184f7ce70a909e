"""Softmax-1: a row of weights may sum to less than 1, so that a head can do nothing."""

import torch
from torch import Tensor

from custom_attention.variant import Call, Variant


class SoftmaxOne(Variant):
    """exp(s_ij) / (1 + sum_j exp(s_ij)): as if there were one more key with score 0 and value 0.

    Sources: Miller 2023 ("Attention is off by one"), OutEffHop (Hu et al. 2024, arXiv 2404.03828). It has no
    parameter and no start as stock attention; `sink` goes there from stock. It takes the explicit path.
    """

    starts_as_stock = False

    def normalize(self, scores: Tensor, call: Call) -> Tensor:
        return scores.softmax(-1) * torch.sigmoid(torch.logsumexp(scores, -1, keepdim=True))
