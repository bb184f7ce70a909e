"""No factor on the scores: what does 1/sqrt(d) contribute?"""

from typing import ClassVar, Literal

from custom_attention.variant import Site, Variant, VariantError


class Unscaled(Variant):
    """softmax(q k^T) v.

    The naive form drops the factor from trained weights, so scores grow by sqrt(d) and the model starts
    elsewhere.
    The compensated form also multiplies W_q by the dropped factor: the same function, exactly so where it
    is a power of two, and only optimisation differs. T5 trains this way from the start (Raffel et al. 2020,
    arXiv 1910.10683).

    Options:
        mode: drop the factor as it is, or move it into W_q (naive, compensated)
    """

    starts_as_stock: ClassVar = {"mode": {"naive": False, "compensated": True}}

    def __init__(self, site: Site, *, mode: Literal["naive", "compensated"] = "naive") -> None:
        super().__init__(site)
        if site.scale == 1.0:
            raise VariantError(
                "unscaled", f"{site.name} has no factor to drop, its scale is already 1 (as in T5)"
            )
        self.mode = mode

    def scale(self, scale: float) -> float:
        return 1.0

    def weight_factor(self) -> float:
        return self.site.scale if self.mode == "compensated" else 1.0
