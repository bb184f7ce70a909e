"""Cosine scores with a learned temperature."""

import math

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class Cosine(Variant):
    """softmax(tau_h cos(q, k)) v with tau = 10 at the start and at most 100.

    Source: Swin v2 (Liu et al. 2021, arXiv 2111.09883). The scores are bounded. The norms that it removes
    differ by token, so no start equals stock attention: a pretrained model has to adapt.
    """

    starts_as_stock = False

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.log_temperature = nn.Parameter(torch.full((site.num_heads, 1, 1), math.log(10.0)))

    def scale(self, scale: float, call: Call) -> float:
        return 1.0

    def query(self, query: Tensor, call: Call) -> Tensor:
        temperature = self.log_temperature.clamp(max=math.log(100.0)).exp()
        return (nn.functional.normalize(query.float(), dim=-1) * temperature).to(query.dtype)

    def key(self, key: Tensor, call: Call) -> Tensor:
        return nn.functional.normalize(key.float(), dim=-1).to(key.dtype)
