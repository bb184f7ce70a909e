"""T2R: linear attention whose features are learned layers with ReLU."""

from typing import Annotated

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Range, Site, Variant


class T2r(Variant):
    """phi(q) phi(k)^T v / sum with phi(x) = relu(x W_h + b_h), W drawn; one for queries, one for keys.

    Source: T2R (Kasai et al. 2021, arXiv 2103.13076): softmax is swapped and the model fine-tuned. With a
    `stage`, W and b alone first learn to give the output of softmax attention, which each site passes on,
    as LoLCATs (Zhang et al. 2024, arXiv 2410.10254) trains these features. Evaluation is always linear.
    Not at the speed of a recurrence.

    Options:
        features: length of phi (at least 1)
        stage: the share of training that is attention transfer; 0: none, as in T2R
    """

    starts_as_stock = False

    def __init__(
        self,
        site: Site,
        *,
        features: Annotated[int, Range(at_least=1)] = 32,
        stage: Annotated[float, Range(at_least=0, at_most=1)] = 0.0,
    ) -> None:
        super().__init__(site)
        self.stage = stage
        drawn = torch.randn(2, site.num_heads, site.head_dim, features) * site.head_dim**-0.5
        offsets = torch.zeros(2, site.num_heads, 1, features)
        self.of_query, self.of_key = map(nn.Parameter, drawn)
        self.query_offset, self.key_offset = map(nn.Parameter, offsets)

    def attend(self, call: Call) -> Tensor:
        return call.attend(*call.states) if self._transfers(call) else self._linear(call)

    def transfer(self, output: Tensor, call: Call) -> Tensor | None:
        if not self._transfers(call):
            return None
        return (self._linear(call.detached()) - output.detach()).float().square().mean((1, 3))

    def _transfers(self, call: Call) -> bool:
        return self.training and call.progress < self.stage

    def _linear(self, call: Call) -> Tensor:
        query, key, _ = call.states
        keys = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
        of_query = torch.relu(query.float() @ self.of_query.float() + self.query_offset.float())
        of_keys = torch.relu(keys.float() @ self.of_key.float() + self.key_offset.float())
        return call.attend_by(of_query @ of_keys.mT)
