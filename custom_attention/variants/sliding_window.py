"""A sliding window: a query sees the keys near it and the first tokens, which see everything."""

from torch import Tensor

from custom_attention.variant import Call, Site, Variant, VariantError


class SlidingWindow(Variant):
    """weights = softmax(scores) over keys at most `window` positions away; `num_global` first tokens see all.

    Sources: Longformer (Beltagy et al. 2020, arXiv 2004.05150) and sparse transformers (Child et al. 2019,
    arXiv 1904.10509). It changes which keys count, not the cost: the kernel computes hidden scores too.
    Refused at cross-attention and merged attention.

    Options:
        window: keys on each side (before it alone, where attention is causal)
        num_global: first tokens of an example that see all and are seen by all
    """

    starts_as_stock = False

    def __init__(self, site: Site, *, window: int = 4, num_global: int = 1) -> None:
        super().__init__(site)
        if site.kind != "self":
            what = f"{site.name} is {site.kind}-attention, where not every key has a distance"
            raise VariantError("sliding_window", what, accepted="where: {kind: self} selects self-attention")
        self.window, self.num_global = window, num_global

    def mask(self, visible: Tensor, call: Call) -> Tensor:
        near = call.offsets().abs()[:, None] <= self.window
        real = visible[:, :1].any(2, keepdim=True)  # a padding query may see none
        first = (real & (real.cumsum(-1) <= self.num_global)).expand(-1, -1, -1, call.key.shape[2])
        places = call.own_positions()[:, None, None]
        batch = max(len(first), len(places))
        sees_all = first.expand(batch, -1, -1, -1).gather(3, places.expand(batch, -1, -1, -1)).mT
        return visible & (near | first | sees_all)
