"""Stock attention through the dispatcher of this package: the control."""

from custom_attention.variant import Variant


class Stock(Variant):
    """softmax(q k^T / sqrt(d)) v on the model's own kernel, with no hook and no parameter.

    Source: Vaswani et al. 2017 (arXiv 1706.03762). Use it, or an empty list, as the baseline of an ablation.
    """

    starts_as_stock = True
    is_control = True
