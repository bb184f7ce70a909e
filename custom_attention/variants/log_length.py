"""Scores that grow with the logarithm of the number of visible keys."""

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Range, Site, Variant


class LogLength(Variant):
    """softmax((1 + a_h (log n_i / log n_ref - 1)) q_i k^T * scale) v with a = 0 at the start.

    n_i is the number of keys that query i sees. a = 1 is the scale of Chiang and Cholak 2022 (arXiv
    2202.12172) and of scalable softmax (Nakanishi 2025, arXiv 2501.19399): weights over many keys then do
    not become flat.

    Options:
        reference_len: the length n_ref at which nothing changes, 2 or more
    """

    starts_as_stock = True

    def __init__(self, site: Site, *, reference_len: Annotated[int, Range(at_least=2)] = 512) -> None:
        super().__init__(site)
        self.reference_len = reference_len
        self.strength = nn.Parameter(torch.zeros(site.num_heads))

    def query(self, query: Tensor, call: Call) -> Tensor:
        relative = call.visible_counts().log() / math.log(self.reference_len) - 1
        return (query * (1 + self.strength[:, None, None] * relative)).to(query.dtype)
