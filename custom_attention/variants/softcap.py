"""Scores with a smooth upper bound on their size."""

from typing import Annotated

from torch import Tensor

from custom_attention.variant import Call, Range, Site, Variant


class Softcap(Variant):
    """softmax(cap tanh(s / cap)) v for the scores s.

    Source: Gemma 2 (2024, arXiv 2408.00118). It does not start as stock attention; with |s| far below the cap
    the difference is small. It takes the explicit path.

    Options:
        cap: bound on the absolute score (above 0)
    """

    starts_as_stock = False

    def __init__(self, site: Site, *, cap: Annotated[float, Range(above=0)] = 50.0) -> None:
        super().__init__(site)
        self.cap = cap

    def scores(self, scores: Tensor, call: Call) -> Tensor:
        return self.cap * (scores / self.cap).tanh()
