"""T5's learned bias by bucketed distance, as an add-on."""

import math

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant, VariantError


class RelativeBias(Variant):
    """softmax(s + B[bucket(j - i)]) v with a table B (buckets, heads), 0 at the start.

    Half of a side's buckets are single distances, the rest grow logarithmically up to `max_distance`.
    Source: Raffel et al. 2020 (arXiv 1910.10683). One table per site, where T5 shares one in a stack.

    Options:
        num_buckets: size of the table, an even number of 4 or more
        max_distance: from here on all distances share a bucket
    """

    starts_as_stock = True

    def __init__(self, site: Site, *, num_buckets: int = 32, max_distance: int = 128) -> None:
        super().__init__(site)
        if site.is_cross:
            where = "where: {kind: self} selects self-attention"
            raise VariantError(
                "relative_bias", f"{site.name} is cross-attention, no distance", accepted=where
            )
        if num_buckets < 4 or num_buckets % 2 or max_distance <= num_buckets // 4:
            raise VariantError("relative_bias", "too few buckets or too short", (num_buckets, max_distance))
        self.side, self.max_distance = num_buckets // 2, max_distance
        self.table = nn.Parameter(torch.zeros(num_buckets, site.num_heads))

    def offset_bias(self, offsets: Tensor, call: Call) -> Tensor:
        return self.table[self._bucket(offsets)].T

    def _bucket(self, offset: Tensor) -> Tensor:
        distance, exact = offset.abs(), self.side // 2
        growth = torch.log(distance.clamp(min=1) / exact) / math.log(self.max_distance / exact)
        far = (exact + growth * (self.side - exact)).long().clamp(max=self.side - 1)
        return torch.where(distance < exact, distance, far) + self.side * (offset > 0)
