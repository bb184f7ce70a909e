"""Multi-token attention: a score also depends on the scores of neighbouring queries and keys."""

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant, VariantError


class MultiToken(Variant):
    """softmax(S + W * S) v with a convolution W_h over queries and keys, W = 0 at the start.

    Source: Golovneva et al. 2025 (arXiv 2504.00927), without its mixing of heads and its normalisation. The
    convolution sees `queries` rows up to its own and `keys` keys around its own; hidden scores count as 0.
    Refused at cross-attention and merged attention. With a cache, queries are kept too.

    Options:
        queries: rows of the convolution
        keys: columns of the convolution, an odd number
    """

    starts_as_stock = True

    def __init__(self, site: Site, *, queries: int = 6, keys: int = 11) -> None:
        super().__init__(site)
        if site.kind != "self":
            what = f"{site.name} is {site.kind}-attention, where queries and keys have no common order"
            raise VariantError("multi_token", what, accepted="where: {kind: self} selects self-attention")
        self.weight = nn.Parameter(torch.zeros(site.num_heads, 1, queries, keys // 2 * 2 + 1))

    def position_bias(self, bias: Tensor | None, call: Call) -> Tensor:
        heads, (rows, columns) = self.site.num_heads, self.weight.shape[2:]
        queries = call.along_keys(call.query.transpose(1, 2)).transpose(1, 2)
        keys = call.key.repeat_interleave(heads // call.key.shape[1], 1)
        scores = (queries.float() @ keys.float().mT) * call.scale
        real = call.visible_keys()[:, :1].any(2, keepdim=True)  # a padding query may see none
        real = real.expand(len(scores), -1, -1, -1)
        seen = real & real.mT
        scores = torch.where(seen.tril() if self.site.is_causal else seen, scores, 0)
        padded = nn.functional.pad(scores, (columns // 2, columns // 2, rows - 1, 0))
        added = nn.functional.conv2d(padded, self.weight.float(), groups=heads)
        places = call.own_positions()[:, None, :, None].expand(len(scores), heads, -1, added.shape[-1])
        added = added.gather(2, places)
        return added if bias is None else bias + added
