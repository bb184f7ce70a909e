"""What a site can know of the forward around it: inputs of its module, its cache, states of earlier sites.

Needs only torch, transformers and files of this folder: an exported model carries a copy of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer, EncoderDecoderCache, StaticLayer

from custom_attention.errors import VariantError
from custom_attention.runtime.recomputed import runs_again
from custom_attention.runtime.transfer import Transfer
from custom_attention.site import Site

PLACE = "attnlab"  # on a layer of a cache: whose states it keeps
ALIKE = 1e-2  # relative: a query that is computed again for the backward pass is the same up to rounding


class Arguments:
    """The arguments of one call of an attention module.

    Attributes:
        kept: what `along_keys` returned in this call, in order.
        has_begun: whether `ForwardState` knows of this call.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.args, self.kwargs = args, kwargs
        self.kept: list[Tensor] = []
        self.has_begun = False

    def get(self, name: str, position: int | None) -> Any:
        """Return an argument by its name, or by its position in the signature; None if it was not given."""
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[position] if position is not None and position < len(self.args) else None

    @property
    def cache(self) -> Cache | None:
        """The cache of the keys and values of self-attention, or None."""
        given = (value for value in (*self.args, *self.kwargs.values()) if isinstance(value, Cache))
        cache = next(given, None)
        return cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache


class ForwardState:
    """What the attention sites of one model share while it runs.

    A copy of the model gets a state of its own, without tensors.

    Attributes:
        progress: of training: 0.0 at the first step, 1.0 at the last and after it.
        follows_progress: whether a variant asked for it, so that it belongs to the model.
        arguments: of the attention module that is running, or None.
        transfer: how the transfer losses of the forward that is running count.
    """

    def __init__(self) -> None:
        self.progress, self.follows_progress = 0.0, False
        self.arguments: Arguments | None = None
        self.transfer = Transfer()
        self._published: dict[str, dict[int, tuple[Site, Tensor]]] = {}
        self._readers: dict[int, Tensor] = {}
        self._last, self._with_gradient = -1, False

    def __getstate__(self) -> dict[str, Any]:
        return {"progress": self.progress, "follows_progress": self.follows_progress}

    def __setstate__(self, state: dict[str, Any]) -> None:
        ForwardState.__init__(self)
        self.__dict__.update(state)

    @property
    def has_published(self) -> bool:
        """Whether a variant gave states to later sites in this forward."""
        return bool(self._published)

    def publish(self, site: Site, arguments: Arguments | None, name: str, states: Tensor) -> None:
        """Keep `states` of a site for later sites of the same forward."""
        self._begin(site, arguments)
        self._published.setdefault(name, {})[site.index] = site, states

    def earlier(self, site: Site, arguments: Arguments | None, name: str, query: Tensor) -> list[Tensor]:
        """Return what earlier sites of the same stack and kind published in this forward, in order.

        A layer that gradient checkpointing runs again, in the backward pass, gets what it got in the forward.

        Raises:
            VariantError: checkpointing is reentrant, which cuts the gradient to earlier sites.
            RuntimeError: another forward ran before the backward pass of this one.
        """
        self._begin(site, arguments)
        found = [
            states
            for index, (other, states) in self._published.get(name, {}).items()
            if index < site.index and (other.stack, other.kind) == (site.stack, site.kind)
        ]
        if not runs_again():
            self._with_gradient = torch.is_grad_enabled()
            if found:
                self._readers[site.index] = _mark_of(query).clone()
            return found
        if found:
            self._require_same_forward(site, _mark_of(query))
        if found and not self._with_gradient and torch.is_grad_enabled():
            what = "reentrant gradient checkpointing cuts the gradient to what an earlier site published"
            raise VariantError(site.name, what, accepted='use {"use_reentrant": False}')
        return found

    def _begin(self, site: Site, arguments: Arguments | None) -> None:
        """Forget what an earlier forward published: sites run in the order of their indices."""
        if runs_again() or (arguments is not None and arguments.has_begun):
            return
        if arguments is not None:
            arguments.has_begun = True
        if site.index <= self._last:
            self._published, self._readers = {}, {}
        self._last = site.index

    def _require_same_forward(self, site: Site, mark: Tensor) -> None:
        """Refuse states of another forward; no number is read back from a GPU."""
        before = self._readers.get(site.index, mark.new_full(mark.shape, torch.inf))
        alike = before.shape == mark.shape and (before - mark).abs().max() <= ALIKE * mark.abs().max()
        torch._assert_async(
            torch.as_tensor(alike, device=mark.device),
            f"{site.name}: with gradient checkpointing, run the backward pass of a forward before the next "
            "forward: this variant reads states of earlier sites.",
        )


def _mark_of(query: Tensor) -> Tensor:
    """Return the last queries of the first head, which depend on the whole of their examples."""
    return query.detach()[:, 0, -1]


def keep_with_cache(cache: Cache, site: Site, slot: int, states: Tensor) -> Tensor:
    """Append states to those of earlier steps, in a layer of their own of the model's cache, and return all.

    The cache reorders, crops and repeats that layer together with its keys and values.

    Args:
        slot: which of the states that variants keep at this site.
        states: (batch, query_len, ...).
    """
    flat = states.reshape(*states.shape[:2], -1)[:, None]
    kept, _ = _layer_of(cache, (site.index, slot), site.num_sites).update(flat, flat[..., :0])
    return kept[:, 0].reshape(*kept.shape[::2][:2], *states.shape[2:])


def _layer_of(cache: Cache, place: tuple[int, int], most_layers: int) -> CacheLayerMixin:
    """Return the layer of a cache that was made for `place`, made now if there is none.

    Args:
        most_layers: the model's own layers are at most as many. A cache may add them one by one, found by
            their index, so ours come after all of them.
    """
    for layer in cache.layers:
        if isinstance(layer, CacheLayerMixin) and vars(layer).get(PLACE) == place:
            return layer
    while cache.layer_class_to_replicate is not None and len(cache.layers) < most_layers:
        cache.layers.append(cache.layer_class_to_replicate())
    # A sliding window has a maximum too, but only a static layer has room for it from the start.
    is_static = any(isinstance(layer, StaticLayer) for layer in cache.layers)
    made = StaticLayer(cache.get_max_length()) if is_static else DynamicLayer()
    vars(made)[PLACE] = place
    cache.layers.append(made)
    return made
