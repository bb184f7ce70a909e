"""The cache of what is read, taken from the forward that gives the loss: of prompts, or of sources."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, EncoderDecoderCache


def cache_of_prompts(cache: object, lengths: Tensor) -> DynamicCache | None:
    """Return the keys and values of all tokens of each prompt but its last, padded on the left.

    Generation goes on with the last one. None where the cache holds another kind of states, or where some
    prompt has no token before its last.

    Args:
        cache: of a forward in which each text stands at the left.
        lengths: tokens of each prompt, (batch,).
    """
    if not isinstance(cache, DynamicCache) or int(lengths.min()) < 2:
        return None
    layers = [layer for layer in cache.layers if type(layer) is DynamicLayer]
    if len(layers) < len(cache.layers):
        return None
    longest = int(lengths.max())
    places = torch.arange(longest - 1, device=lengths.device) - (longest - lengths)[:, None]
    places = places.clamp(min=0)[:, None, :, None]
    for layer in layers:
        assert layer.keys is not None  # a forward has filled it
        assert layer.values is not None
        layer.keys, layer.values = _at(layer.keys, places), _at(layer.values, places)
    return cache


class SourceLayer(DynamicLayer):
    """Keys and values of a source, which all beams of its text share: their order changes nothing."""

    def reorder_cache(self, _: Tensor) -> None:
        pass


def cache_of_sources(cache: object) -> EncoderDecoderCache | None:
    """Return the keys and values of the sources at cross-attention, without those of the targets.

    None where the cache holds another kind of states.
    """
    if not isinstance(cache, EncoderDecoderCache):
        return None
    layers = cache.cross_attention_cache.layers
    if not layers or any(type(layer) is not DynamicLayer or not layer.is_initialized for layer in layers):
        return None
    for layer in layers:
        layer.__class__ = SourceLayer
    cache.self_attention_cache.reset()
    return cache


def _at(states: Tensor, places: Tensor) -> Tensor:
    return states.gather(2, places.expand(-1, states.shape[1], -1, states.shape[3]))
