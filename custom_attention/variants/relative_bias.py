"""A learned bias by bucket of distance, as in T5, in addition to the model's own positions."""

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Range, Site, Variant, VariantError


class RelativeBias(Variant):
    """softmax(s + B[bucket(j - i)]) v with a table B (buckets, heads), 0 at the start.

    Half of the buckets of each side hold one distance each, the others grow logarithmically up to
    `max_distance`. Source: Raffel et al. 2020 (arXiv 1910.10683). Each site has its own table; T5 shares one.

    Options:
        num_buckets: size of the table, an even number of 4 or more
        max_distance: all distances from here on share one bucket
    """

    starts_as_stock = True

    def __init__(
        self,
        site: Site,
        *,
        num_buckets: Annotated[int, Range(at_least=4, at_most=65536, multiple_of=2)] = 32,
        max_distance: Annotated[int, Range(above="num_buckets / 4")] = 128,
    ) -> None:
        super().__init__(site)
        if site.kind != "self":
            where = "where: {kind: self} selects self-attention"
            raise VariantError(
                "relative_bias",
                f"{site.name} is {site.kind}-attention, where not every key has a distance",
                accepted=where,
            )
        self.side, self.max_distance = num_buckets // 2, max_distance
        self.table = nn.Parameter(torch.zeros(num_buckets, site.num_heads))

    def offset_bias(self, offsets: Tensor, call: Call) -> Tensor:
        return self.table[self._bucket(offsets)].T

    def _bucket(self, offset: Tensor) -> Tensor:
        distance, exact = offset.abs(), self.side // 2
        growth = torch.log(distance.clamp(min=1) / exact) / math.log(self.max_distance / exact)
        far = (exact + growth * (self.side - exact)).long().clamp(max=self.side - 1)
        return torch.where(distance < exact, distance, far) + self.side * (offset > 0)
