"""The attention weights of a model on one example, whole: for pictures of short inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from custom_attention.observation import observed_forward
from custom_attention.runtime.call import Call
from custom_attention.runtime.dispatch import Stack
from custom_attention.runtime.tokens import repeat_heads
from custom_attention.site import Site


@dataclass(frozen=True)
class AttentionMap:
    """The weights of one attention site: (heads, query_len, key_len), float32, on the CPU."""

    site: Site
    weights: Tensor


def attention_maps(model: PreTrainedModel, batch: Mapping[str, Any]) -> list[AttentionMap]:
    """Run `model` on `batch` in evaluation mode and return the weights of its first example at every site.

    Variants may be attached or not. The model is as before when it returns.

    Args:
        batch: keyword arguments of one forward, of one example without padding.

    Raises:
        VariantError: the model does not dispatch, its softmax has a term of its own, or a variant replaces
            the kernel.
    """
    found: dict[nn.Module, Tensor] = {}

    def note(stack: Stack, call: Call, _output: Tensor) -> None:
        found[call.module] = _weights(stack, call)

    with observed_forward(model, batch, note) as reached:
        return [AttentionMap(stack.site, found[module]) for module, stack in reached]


def _weights(stack: Stack, call: Call) -> Tensor:
    """Return the weights of the first example of a call."""
    heads = call.query.shape[1]
    query, key, _ = stack.enter(call)
    key = repeat_heads(key, heads // key.shape[1])
    first = (slice(0, 1), slice(0, heads), slice(0, query.shape[2]))
    part = call.part(first, call.full_mask(key.shape[2]))
    _, weights = stack.weigh(part, query[first], key[first[:2]])
    return weights[0].float().cpu()
