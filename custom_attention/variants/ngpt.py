"""nGPT: queries and keys on the unit sphere, with a learned scale for each channel."""

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class NormalizedTransformer(Variant):
    """softmax(sqrt(d) (s_h q / |q|) (s_h k / |k|)^T) v with a factor s for each channel, 1 at the start.

    Source: nGPT (Loshchilov et al. 2024, arXiv 2410.01131), its attention: in rotary models the rotated
    states are normalised, as there. What lies outside attention is left out: weights that are normalised
    after each step, residual updates on the sphere with their own rates, layers without norms, the scale
    of the logits. The source trains s at the scale 1 / sqrt(hidden size), which is a rate of its own.
    """

    starts_as_stock = False

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.excess = nn.Parameter(torch.zeros(site.num_heads, 1, site.head_dim))  # s = 1 + excess

    def scale(self, scale: float, call: Call) -> float:
        return self.site.head_dim**0.5

    def query(self, query: Tensor, call: Call) -> Tensor:
        # s stands in both factors of a score, so its square may stand in one, whichever heads share keys.
        factor = (1 + self.excess).square()
        return (nn.functional.normalize(query.float(), dim=-1) * factor).to(query.dtype)

    def key(self, key: Tensor, call: Call) -> Tensor:
        return nn.functional.normalize(key.float(), dim=-1).to(key.dtype)
