"""Query-key normalisation with learned strength, 0 at the start."""

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class QueryKeyNorm(Variant):
    """q (sqrt(d) / |q|)^p and k (sqrt(d) / |k|)^r with learned powers per head, 0 at the start.

    Power 1 is the normalisation of Henry et al. 2020 (arXiv 2010.04245) and ViT-22B (arXiv 2302.05442)
    without gains. That form cannot equal a pretrained model, the form with powers can. With a cache all keys
    are normalised again in every step.
    """

    starts_as_stock = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.query_power = nn.Parameter(torch.zeros(site.num_heads, 1, 1))
        self.key_power = nn.Parameter(torch.zeros(site.num_key_heads, 1, 1))

    def query(self, query: Tensor, call: Call) -> Tensor:
        return self._powered(query, self.query_power)

    def key(self, key: Tensor, call: Call) -> Tensor:
        return self._powered(key, self.key_power)

    def _powered(self, states: Tensor, power: Tensor) -> Tensor:
        norm = states.float().norm(dim=-1, keepdim=True).clamp(min=1e-6)
        return (states * (self.site.head_dim**0.5 / norm) ** power).to(states.dtype)
