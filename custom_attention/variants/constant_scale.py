"""Another constant factor on the scores: 1/d, 1/sqrt(d) or one that decreases with depth."""

from typing import Annotated, ClassVar, Literal

from custom_attention.variant import Call, Range, Site, Variant, VariantError


class ConstantScale(Variant):
    """softmax(c f q k^T) v with f = 1/d, 1/sqrt(d), or the model's own factor over (layer + 1).

    Sources: 1/d is muP (Yang et al. 2022, arXiv 2203.03466); 1/(layer + 1) is Mistral's GPT-2; 1/sqrt(d)
    gives T5, which has no factor, the usual one. In the mode "compensated" W_q is divided by the change:
    the same function, but another optimisation.

    Options:
        of: which f (dim, root_dim, layer)
        factor: c, a number above 0
        mode: change only the factor, or keep the function by rescaling W_q (naive, compensated)
    """

    starts_as_stock: ClassVar = {"mode": {"naive": False, "compensated": True}}

    def __init__(
        self,
        site: Site,
        *,
        of: Literal["dim", "root_dim", "layer"] = "dim",
        factor: Annotated[float, Range(above=0)] = 1.0,
        mode: Literal["naive", "compensated"] = "naive",
    ) -> None:
        super().__init__(site)
        self.mode = mode
        by_name = {
            "dim": 1 / site.head_dim,
            "root_dim": site.head_dim**-0.5,
            "layer": site.scale / (site.layer + 1),
        }
        self.constant = factor * by_name[of]
        if of != "layer" and self.constant == site.scale:
            raise VariantError("constant_scale", f"{site.name} has this factor already", self.constant)

    def scale(self, scale: float, call: Call) -> float:
        return self.constant

    def weight_factor(self) -> float:
        return self.site.scale / self.constant if self.mode == "compensated" else 1.0
