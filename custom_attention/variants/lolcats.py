"""LoLCATs: linear attention whose features first learn to give the output of softmax attention."""

from typing import Annotated

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Range, Site, Variant


class Lolcats(Variant):
    """phi(q) phi(k)^T v / sum with Hedgehog features phi(x) = [softmax(x A_h), softmax(-x A_h)], A = I first.

    Sources: LoLCATs (Zhang et al. 2024, arXiv 2410.10254), Hedgehog (Zhang et al. 2024, arXiv 2402.04347).
    In the first `stage` of training each site passes softmax attention on, and its A alone learns, by the
    mean square of the difference of the outputs (attention transfer). Then, and in evaluation always, linear
    attention runs, and whatever is trained learns. The paper trains nothing but A in the first stage, and
    low-rank factors in the second (`lora`). Without its window of softmax, and not at the speed of a
    recurrence.

    Options:
        stage: the share of training that is attention transfer
    """

    starts_as_stock = False

    def __init__(self, site: Site, *, stage: Annotated[float, Range(above=0, at_most=1)] = 0.5) -> None:
        super().__init__(site)
        self.stage = stage
        size = (site.num_heads, site.head_dim, site.head_dim)
        self.of_query, self.of_key = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))

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
        return call.attend_by(_features(query, self.of_query) @ _features(keys, self.of_key).mT)


def _features(states: Tensor, change: Tensor) -> Tensor:
    mapped = states.float() + states.float() @ change.float()
    return torch.cat([mapped.softmax(-1), (-mapped).softmax(-1)], -1)
