"""Layers that compute no padding: between the first and the last, a batch is one row of its tokens.

Everything in a layer but attention treats tokens one by one, so padding there is work for nothing, and a
step can be cut into fewer micro-batches. At each attention site the tokens go back to their places, so
kernels, masks and variants see the batch they always see, and no example can see another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import custom_attention
from custom_attention.modes import quiet
from pipelines.distributed.transfer import send
from pipelines.tasks.base import Task

TOLERANCE = 3e-4  # of what the last layer says at most: the root of float32's eps


@dataclass(frozen=True)
class TokenLayout:
    """Where the tokens of a batch stand."""

    batch: int
    length: int
    rows: Tensor  # (num_tokens,): their places among all batch * length
    ends: list[int]  # of each example, how far its tokens reach

    @classmethod
    def of(cls, mask: Tensor, device: torch.device) -> TokenLayout:
        """Of a mask (batch, length) that is not 0 at tokens."""
        places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        rows = mask.flatten().nonzero().flatten()
        return cls(*mask.shape, send(rows, device), (mask.bool() * places).amax(1).tolist())

    def pack(self, states: Tensor) -> Tensor:
        """(batch, len, ...) -> (1, num_tokens, ...)."""
        if states.shape[:2] != (self.batch, self.length):
            raise ValueError(f"not the states of this batch: {tuple(states.shape)}")
        return states.flatten(0, 1).index_select(0, self.rows)[None]

    def spread(self, tokens: Tensor) -> Tensor:
        """(1, num_tokens, ...) -> (batch, len, ...), zero at padding."""
        states = tokens.new_zeros(self.batch * self.length, *tokens.shape[2:])
        return states.index_add(0, self.rows, tokens[0]).unflatten(0, (self.batch, self.length))


class Unpadding:
    """Runs the layers of a model on tokens alone, where it is told of a batch; see `that_suits`."""

    def __init__(self, layers: nn.ModuleList, stacks: list[nn.Module]) -> None:
        self._layout: TokenLayout | None = None
        self._hooks = [
            layers[0].register_forward_pre_hook(self._enter, with_kwargs=True),
            layers[-1].register_forward_hook(self._leave),
            *(stack.register_forward_pre_hook(self._enter_site) for stack in stacks),
            *(stack.register_forward_hook(self._leave_site) for stack in stacks),
        ]

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def of(self, attention_mask: Tensor, device: torch.device) -> Iterator[None]:
        """While active, forward and backward on `device` of a batch with this mask (batch, len) skip what it
        hides. Its values are read: a mask that is still on the host makes nobody wait."""
        if not attention_mask.all():
            self._layout = TokenLayout.of(attention_mask, device)
        try:
            yield
        finally:
            self._layout = None

    def _enter(self, layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict] | None:
        if self._layout is None:
            return None
        if args:
            return (self._layout.pack(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": self._layout.pack(kwargs["hidden_states"])}

    def _leave(self, layer: nn.Module, args: tuple, output: Any) -> Any:
        if self._layout is None:
            return None
        if isinstance(output, tuple):
            return (self._layout.spread(output[0]), *output[1:])
        return self._layout.spread(output)

    def _enter_site(self, stack: nn.Module, args: tuple) -> tuple | None:
        """Queries, keys and values: (1, heads, num_tokens, head_dim) -> (batch, heads, len, head_dim).

        Nobody reads what attention says at padding."""
        if self._layout is None:
            return None
        module, *states = args[:4]
        spread = (self._layout.spread(state.transpose(1, 2)).transpose(1, 2) for state in states)
        return (module, *spread, *args[4:], self._layout.ends)

    def _leave_site(self, stack: nn.Module, args: tuple, output: tuple) -> tuple | None:
        if self._layout is None:
            return None
        return self._layout.pack(output[0]), None


def that_suits(model: nn.Module, task: Task, batch: Mapping[str, Any]) -> Unpadding | None:
    """What runs the layers of `model` on tokens alone; None where that would not be the same function.

    That is found out on `batch`, which has padding: a layer may mix tokens outside attention (convolutions),
    or know its tokens by their place in the batch (rotary and T5's positions).
    """
    mask, layers = batch.get("attention_mask"), _layers(model)
    if mask is None or mask.ndim != 2 or layers is None:
        return None
    unpadding = Unpadding(layers, [stack for _, stack in custom_attention.attached(model)])
    if _same_states(model, task, batch, layers[-1], unpadding):
        return unpadding
    unpadding.remove()
    return None


def _layers(model: nn.Module) -> nn.ModuleList | None:
    """The layers, where each has one site of self-attention, there is no other, and none is ever left out."""
    sites = {module for module, _ in custom_attention.attached(model)}
    if any(site.is_cross for site in custom_attention.sites(model)) or getattr(model.config, "layerdrop", 0):
        return None
    for candidate in model.modules():
        if isinstance(candidate, nn.ModuleList) and len(candidate) == len(sites):
            found = [sum(module in sites for module in layer.modules()) for layer in candidate]
            if found == [1] * len(sites):
                return candidate
    return None


def _same_states(
    model: nn.Module, task: Task, batch: Mapping[str, Any], last: nn.Module, unpadding: Unpadding
) -> bool:
    """Whether the last layer says the same of every token."""
    said: list[Tensor] = []
    watch = last.register_forward_hook(
        lambda layer, args, output: said.append(output[0] if isinstance(output, tuple) else output)
    )
    try:
        with quiet(model), torch.no_grad():
            task.loss(model, batch)
            with unpadding.of(batch["attention_mask"], batch["attention_mask"].device):
                task.loss(model, batch)
    except (RuntimeError, ValueError):  # of shapes: some layer asks which example its tokens are of
        return False
    finally:
        watch.remove()
    expected, came = (states[batch["attention_mask"].bool()] for states in said)
    bound = TOLERANCE * float(expected.abs().max())
    return torch.allclose(came, expected, rtol=0.0, atol=bound, equal_nan=True)
