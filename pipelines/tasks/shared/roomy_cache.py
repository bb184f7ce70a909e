"""A cache of keys and values with room for the next tokens, so that a step does not copy the earlier ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache

ROOM = 32  # tokens behind those that are kept


def make_room(cache: Cache | None) -> None:
    """Give the layers of a decoder's own keys and values room, in place.

    Layers that are more than a `DynamicLayer` (windows, quantized, static) stay as they are, and so do the
    keys of a source, which do not grow.
    """
    own = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
    if own is None:
        return
    for layer in own.layers:
        if type(layer) is DynamicLayer:
            layer.__class__ = RoomyLayer
    if own.layer_class_to_replicate is DynamicLayer:
        own.layer_class_to_replicate = RoomyLayer


class RoomyLayer(DynamicLayer):
    """transformers' `DynamicLayer`; its keys and values are the first tokens of larger tensors.

    Where another method has put others in their place (reordered, cut, repeated), the next step begins new
    tensors, so nobody's keys and values are overwritten.
    """

    _last: tuple[Tensor | None, Tensor | None] = None, None  # keys and values as `update` left them
    _whole: tuple[Tensor, Tensor]  # what they are the first tokens of

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values (batch, heads, len, size), and return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None  # they are initialized
        assert self.values is not None
        begin = self.keys.shape[-2] if self.keys.dim() > 1 else 0
        end = begin + key_states.shape[-2]
        if self._last[0] is not self.keys or self._last[1] is not self.values or end > self._room:
            self._whole = _larger(self.keys, key_states, begin), _larger(self.values, value_states, begin)
        for whole, states in zip(self._whole, (key_states, value_states)):
            whole[:, :, begin:end] = states
        self.keys, self.values = self._last = self._whole[0][:, :, :end], self._whole[1][:, :, :end]
        return self.keys, self.values

    @property
    def _room(self) -> int:
        return self._whole[0].shape[2]


def _larger(kept: Tensor, states: Tensor, begin: int) -> Tensor:
    """Return a tensor with the kept tokens at its start and room behind those of `states`."""
    batch, heads, length, size = states.shape
    whole = states.new_empty(batch, heads, begin + length + ROOM, size)
    if begin:
        whole[:, :, :begin] = kept
    return whole
