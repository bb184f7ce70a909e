"""Muon for the matrices of the layers and AdamW for all else, as one optimizer with one state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch


def layer_matrices(model: torch.nn.Module) -> Iterator[torch.nn.Parameter]:
    """Yield the matrices of a model's layers: not embeddings, and not the head, which AdamW trains better.

    A layer is a numbered module, such as `encoder.layer.0`.
    """
    tables = {id(one.weight) for one in model.modules() if isinstance(one, torch.nn.Embedding)}
    for name, parameter in model.named_parameters():
        is_of_layer = any(part.isdigit() for part in name.split("."))
        if parameter.ndim == 2 and is_of_layer and id(parameter) not in tables:
            yield parameter


class LayerMuon(torch.optim.Optimizer):
    """Two optimizers whose groups and state are those of one, so that it is saved and loaded as one.

    Args:
        matrices: Muon over the matrices of the layers.
        others: AdamW over all other parameters; None where nothing else is trained.
    """

    def __init__(self, matrices: torch.optim.Optimizer, others: torch.optim.Optimizer | None) -> None:
        self._parts = [matrices, *([others] if others is not None else [])]
        self._sizes = [len(part.param_groups) for part in self._parts]
        super().__init__([group for part in self._parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take the step of both, each with its part of the groups and the state of all."""
        assert closure is None, "the loss is not computed again"
        begin = 0
        for part, size in zip(self._parts, self._sizes):
            # Set in every step: loading a state replaces groups and state.
            part.param_groups, part.state = self.param_groups[begin : begin + size], self.state
            part.step()
            begin += size

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a checkpoint holds the state of the optimizer, not the optimizer")
