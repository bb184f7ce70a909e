"""The attention weights of a model on one example, whole: for pictures of short inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from custom_attention.attach import attach, attached, detach, is_attached
from custom_attention.errors import VariantError
from custom_attention.modes import quiet
from custom_attention.runtime.call import OWN_SCORE_TERMS, Call, repeat_heads
from custom_attention.runtime.dispatch import ATTRIBUTE, Stack, observed
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
        VariantError: the model does not dispatch, or its softmax has a term of its own.
    """
    stock = not is_attached(model)
    if stock:
        attach(model, [], example=batch)
    try:
        found: dict[nn.Module, Tensor] = {}

        def note(
            module: nn.Module,
            query: Tensor,
            key: Tensor,
            value: Tensor,
            mask: Tensor | None,
            scaling: float | None,
            kwargs: Mapping[str, Any],
        ) -> Tensor:
            stack: Stack = getattr(module, ATTRIBUTE)
            own = [name for name in OWN_SCORE_TERMS if kwargs.get(name) is not None]
            if own:
                what = f"its softmax has an own term (`{own[0]}`), so its weights cannot be computed"
                raise VariantError(stack.site.name, what)
            output, _ = stack(module, query, key, value, mask, scaling, 0.0, kwargs)
            call = Call(stack, module, query, key, value, mask, scaling, 0.0, kwargs)
            with torch.autocast(query.device.type, enabled=False):
                found[module] = _weights(stack, call)
            return output

        with quiet(model), torch.no_grad(), observed(note):
            model(**batch)
        sites = [(module, stack.site) for module, stack in attached(model) if module in found]
        return [AttentionMap(site, found[module]) for module, site in sites]
    finally:
        if stock:
            detach(model)


def _weights(stack: Stack, call: Call) -> Tensor:
    """Return the weights of the first example of a call."""
    heads = call.query.shape[1]
    query, key, _ = stack.enter(call)
    key = repeat_heads(key, heads // key.shape[1])
    first = (slice(0, 1), slice(0, heads), slice(0, query.shape[2]))
    part = call.part(first, call.full_mask(key.shape[2]))
    _, weights = stack.weigh(part, query[first], key[first[:2]])
    return weights[0].float().cpu()
