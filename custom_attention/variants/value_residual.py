"""Value residual: the values of the first layer are added to those of every later one."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant, VariantError


class ValueResidual(Variant):
    """(1 + a_h) v + b_h v_1 with a = b = 0 at the start; v_1 are the values of the first site of its kind.

    Source: ResFormer (Zhou et al. 2024, arXiv 2410.17897). "learned" has two factors for each head, "fixed"
    is (v + v_1) / 2, for training from scratch. Encoder, decoder and cross-attention have a first site each.

    Options:
        form: both factors learned, or the mean of both values (learned, fixed)
        start: of the learned factors, 0, or the paper's mean of both values (zero, paper)
    """

    starts_as_stock: ClassVar = {
        "form": {"learned": True, "fixed": False},
        "start": {"zero": True, "paper": False},
    }

    def __init__(
        self,
        site: Site,
        *,
        form: Literal["learned", "fixed"] = "learned",
        start: Literal["zero", "paper"] = "zero",
    ) -> None:
        super().__init__(site)
        if site.num_sites == 1:
            what = (
                f"{site.name} is the only attention module of the model, so no later one can add its values"
            )
            raise VariantError(
                "value_residual", what, accepted="a model of several layers with their own weights"
            )
        self.form, self.start = form, start
        if form == "learned" and site.layer > 0:
            half, size = 0.0 if start == "zero" else 0.5, (site.num_key_heads, 1, 1)
            self.own = nn.Parameter(torch.full(size, -half))
            self.first = nn.Parameter(torch.full(size, half))

    def value(self, value: Tensor, call: Call) -> Tensor:
        earlier = call.earlier("value")
        if not earlier:
            call.publish("value", call.values_of_text())
            return value
        first = earlier[0][:, :, -value.shape[2] :]  # of the same tokens: a window may have let go of others
        if self.form == "fixed":
            return (value + first) / 2
        return (value * (1 + self.own) + first * self.first).to(value.dtype)
