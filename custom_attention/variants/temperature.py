"""A learned factor on the scores, per head, per layer or for the whole model."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from custom_attention.variant import Site, Variant

LOG_TEMPERATURE_DEVIATION = 0.1  # of the log-temperatures of a small start: factors of about 0.9 to 1.1


class Temperature(Variant):
    """softmax(exp(t) q k^T * scale) v with learned t, 0 at the start.

    Source: the learned temperature of query-key normalisation (Henry et al. 2020, arXiv 2010.04245) and of
    locality self-attention (Lee et al. 2021, arXiv 2112.13492), which starts at the model's own factor. Folds
    into W_q. It does not scale a position bias, such as T5's, which is added later.

    Options:
        per: the unit that has one temperature (head, layer, model)
        start: the model's factor exactly, or near it with t drawn (zero, small)
    """

    starts_as_stock: ClassVar = {"start": {"zero": True, "small": False}}

    def __init__(
        self,
        site: Site,
        *,
        per: Literal["head", "layer", "model"] = "head",
        start: Literal["zero", "small"] = "zero",
    ) -> None:
        super().__init__(site)
        self.per, self.start = per, start
        self.log_temperature = nn.Parameter(torch.zeros(site.num_heads if per == "head" else 1))
        if start == "small":
            nn.init.normal_(self.log_temperature, std=LOG_TEMPERATURE_DEVIATION)

    def query_gain(self) -> Tensor:
        return self.log_temperature.exp().expand(self.site.num_heads)[:, None]

    def shared(self) -> tuple[str, ...]:
        return ("log_temperature",) if self.per == "model" else ()
