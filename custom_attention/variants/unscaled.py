"""No factor on the scores, to measure what 1/sqrt(d) contributes."""

from typing import ClassVar, Literal

from custom_attention.variant import Call, Site, Variant, VariantError


class Unscaled(Variant):
    """softmax(q k^T) v.

    The mode "naive" only drops the factor: scores grow by sqrt(d), and the model does not start as stock
    attention. "compensated" also multiplies W_q by the factor: the same function, exactly if the factor is a
    power of two, and only optimisation differs. T5 has no factor (Raffel et al. 2020, arXiv 1910.10683).

    Options:
        mode: only drop the factor, or move it into W_q (naive, compensated)
    """

    starts_as_stock: ClassVar = {"mode": {"naive": False, "compensated": True}}

    def __init__(self, site: Site, *, mode: Literal["naive", "compensated"] = "naive") -> None:
        super().__init__(site)
        if site.scale == 1.0:
            raise VariantError(
                "unscaled", f"{site.name} has no factor to drop, its scale is already 1 (as in T5)"
            )
        self.mode = mode

    def scale(self, scale: float, call: Call) -> float:
        return 1.0

    def weight_factor(self) -> float:
        return self.site.scale if self.mode == "compensated" else 1.0
