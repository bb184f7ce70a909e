"""Unpadding: between the first and the last layer, a batch is one row of its tokens, without padding.

All parts of a layer but attention treat tokens one by one, so computing padding there is wasted work; without
it a step needs fewer micro-batches. At each attention site the tokens are put back into the padded batch, so
kernels, masks and variants get their usual inputs, and no example sees another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import custom_attention
from custom_attention.modes import quiet
from custom_attention.runtime.dispatch import Stack
from pipelines.distributed.skipped import layerdrop
from pipelines.distributed.transfer import send
from pipelines.tasks.base import Task

TOLERANCE = 3e-4  # relative to the largest output of the last layer: the square root of float32's eps

Args = tuple[Any, ...]  # positional arguments or outputs of a module


@dataclass(frozen=True)
class TokenLayout:
    """The positions of the tokens of a padded batch."""

    batch: int
    length: int  # of the padded batch
    rows: Tensor  # (num_tokens,): positions of the tokens in the flattened (batch * length)
    ends: list[int]  # of each example, the position after its last token

    @classmethod
    def of(cls, mask: Tensor, device: torch.device) -> TokenLayout:
        """Return the layout of a mask `(batch, length)`, 0 at padding; `rows` is sent to `device`."""
        batch, length = mask.shape
        places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        rows = mask.flatten().nonzero().flatten()
        ends = (mask.bool() * places).amax(1).tolist()
        return cls(batch, length, send(rows, device), ends)

    def pack(self, states: Tensor) -> Tensor:
        """Remove padding: `(batch, length, ...)` -> `(1, num_tokens, ...)`."""
        if states.shape[:2] != (self.batch, self.length):
            raise ValueError(f"not the states of this batch: {tuple(states.shape)}")
        return states.flatten(0, 1).index_select(0, self.rows)[None]

    def spread(self, tokens: Tensor) -> Tensor:
        """Put tokens back: `(1, num_tokens, ...)` -> `(batch, length, ...)`, zero at padding."""
        states = tokens.new_zeros(self.batch * self.length, *tokens.shape[2:])
        return states.index_add(0, self.rows, tokens[0]).unflatten(0, (self.batch, self.length))


class Unpadding:
    """Hooks by which the layers of a model compute no padding inside `skip`; made by `unpadding_for`."""

    def __init__(self, layers: nn.ModuleList, stacks: list[Stack]) -> None:
        self._state = stacks[0].state  # the stacks spread hidden states by it, for variants that read them
        self._layout: TokenLayout | None = None
        self._hooks = [
            layers[0].register_forward_pre_hook(self._enter, with_kwargs=True),
            layers[-1].register_forward_hook(self._leave),
            *(stack.register_forward_pre_hook(self._enter_site) for stack in stacks),
            *(stack.register_forward_hook(self._leave_site) for stack in stacks),
        ]

    def remove(self) -> None:
        """Remove the hooks from the model."""
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def skip(self, attention_mask: Tensor, device: torch.device) -> Iterator[None]:
        """Skip padding in forward and backward of one batch, inside the block.

        Args:
            attention_mask: of the batch, `(batch, length)`, 0 at padding. Its values are read, so it should
                still be on the CPU: reading it from `device` would wait for the device.
            device: where the model computes.
        """
        if not attention_mask.all():
            self._layout = self._state.layout = TokenLayout.of(attention_mask, device)
        try:
            yield
        finally:
            self._layout = self._state.layout = None

    def _enter(
        self, layer: nn.Module, args: Args, kwargs: dict[str, Any]
    ) -> tuple[Args, dict[str, Any]] | None:
        if self._layout is None:
            return None
        if args:
            return (self._layout.pack(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": self._layout.pack(kwargs["hidden_states"])}

    def _leave(self, layer: nn.Module, args: Args, output: Tensor | Args) -> Tensor | Args | None:
        if self._layout is None:
            return None
        if isinstance(output, tuple):
            return (self._layout.spread(output[0]), *output[1:])
        return self._layout.spread(output)

    def _enter_site(self, stack: nn.Module, args: Args) -> Args | None:
        """Put tokens back: `(1, heads, num_tokens, head_dim)` -> `(batch, heads, length, head_dim)`.

        This is done to query, key and value, and by the stack to hidden states. Attention's output at padding
        is dropped by `_leave_site`.
        """
        if self._layout is None:
            return None
        module, *states = args[:4]
        spread = (self._layout.spread(state.transpose(1, 2)).transpose(1, 2) for state in states)
        return (module, *spread, *args[4:], self._layout.ends)

    def _leave_site(self, stack: nn.Module, args: Args, output: Args) -> Args | None:
        if self._layout is None:
            return None
        return self._layout.pack(output[0]), None


def unpadding_for(model: PreTrainedModel, task: Task, batch: dict[str, Any]) -> Unpadding | None:
    """Return an `Unpadding` for the layers of `model`; None where it would change the model's outputs.

    A layer may mix tokens outside attention (convolutions), or use their position in the batch (rotary and
    T5's positions). This is tested on `batch`, which must have padding.
    """
    mask, layers = batch.get("attention_mask"), _layers(model)
    if mask is None or mask.ndim != 2 or layers is None:
        return None
    unpadding = Unpadding(layers, [stack for _, stack in custom_attention.attached(model)])
    if _same_states(model, task, batch, layers[-1], unpadding):
        return unpadding
    unpadding.remove()
    return None


def _layers(model: PreTrainedModel) -> nn.ModuleList | None:
    """Return the layers, if each has one self-attention site, no other site exists, and none is skipped."""
    sites = {module for module, _ in custom_attention.attached(model)}
    if any(site.kind != "self" for site in custom_attention.sites(model)) or layerdrop(model):
        return None
    for candidate in model.modules():
        if isinstance(candidate, nn.ModuleList) and len(candidate) == len(sites):
            found = [sum(module in sites for module in layer.modules()) for layer in candidate]
            if found == [1] * len(sites):
                return candidate
    return None


def _same_states(
    model: PreTrainedModel, task: Task, batch: dict[str, Any], last: nn.Module, unpadding: Unpadding
) -> bool:
    """Return whether the last layer's outputs at tokens are the same with and without padding."""
    outputs: list[Tensor] = []  # a layer that is shared runs several times in one forward

    def keep(layer: nn.Module, args: Args, output: Tensor | Args) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)

    def last_states() -> Tensor:
        outputs.clear()
        task.loss(model, batch)
        return outputs[-1][batch["attention_mask"].bool()]

    hook = last.register_forward_hook(keep)
    try:
        with quiet(model), torch.no_grad():
            padded = last_states()
            with unpadding.skip(batch["attention_mask"], batch["attention_mask"].device):
                unpadded = last_states()
    except (RuntimeError, ValueError):  # shapes do not fit: a layer needs to know which example a token is of
        return False
    finally:
        hook.remove()
    bound = TOLERANCE * float(padded.abs().max())
    return torch.allclose(unpadded, padded, rtol=0.0, atol=bound, equal_nan=True)
