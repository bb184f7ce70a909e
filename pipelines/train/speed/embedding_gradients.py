"""Gradients of large embedding tables, added only at the rows that a step looks up.

Autograd writes a whole table of zeros for each micro-batch, fills in the few rows that were read, and adds
the tables up: a sixth of the time of a small model's step. Here the rows of each micro-batch are added to
one table, and only those rows are set to zero afterwards. Clipping and the optimizer get the usual dense
gradient.
Used on a CPU in one process only: DDP and FSDP exchange dense gradients, and a GPU has the bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

FEWEST_ELEMENTS = 2**20  # of a table; a smaller one costs nothing to write


def large_tables(model: nn.Module) -> list[nn.Embedding]:
    """Return the embeddings that are large enough to gain from it."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    plain = [table for table in tables if table.max_norm is None and not table.scale_grad_by_freq]
    return [table for table in plain if table.weight.numel() >= FEWEST_ELEMENTS]


class RowGradients:
    """Collects the gradients of embedding tables by row, outside autograd.

    Call `gather` after `backward` and before anything reads `grad`; call `clear` in place of `zero_grad`.
    """

    def __init__(self, tables: Iterable[nn.Embedding]) -> None:
        self._found: list[tuple[nn.Embedding, Tensor, Tensor]] = []  # table, ids looked up, gradients
        self._dense: dict[Tensor, Tensor] = {}  # weight of a table -> its gradient, zero between steps
        for table in tables:
            table.register_forward_hook(self._leaf)

    def _leaf(self, table: nn.Embedding, inputs: tuple[Tensor], looked_up: Tensor) -> Tensor | None:
        """Return the looked-up rows as a leaf of the graph, so that their gradient is collected here."""
        if not looked_up.requires_grad:
            return None
        leaf = looked_up.detach().requires_grad_()
        leaf.register_hook(lambda gradient: self._found.append((table, inputs[0], gradient)))
        return leaf

    def gather(self) -> None:
        """Set `grad` of every table to what autograd would give.

        A table that is tied to an output layer has a dense gradient already; the rows are added to it.
        """
        for table, ids, gradient in self._found:
            weight = table.weight
            if weight.grad is None:
                if weight not in self._dense:
                    self._dense[weight] = torch.zeros_like(weight)
                weight.grad = self._dense[weight]
            weight.grad.index_add_(0, *_rows(table, ids, gradient))

    def clear(self, optimizer: torch.optim.Optimizer) -> None:
        """Drop every gradient; a table is set to zero only at the rows that were written.

        After a step that was not finite other rows may hold NaN, because clipping multiplies by it; no later
        step of such a run counts.
        """
        optimizer.zero_grad()
        for table, ids, _ in self._found:
            if table.weight in self._dense:
                self._dense[table.weight].index_fill_(0, ids.flatten(), 0.0)
        self._found.clear()


def _rows(table: nn.Embedding, ids: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return row numbers and the gradient to add to each; rows may repeat, the padding row is left out."""
    ids, gradient = ids.flatten(), gradient.reshape(-1, gradient.shape[-1])
    if table.padding_idx is None:
        return ids, gradient
    kept = ids != table.padding_idx
    return ids[kept], gradient[kept]
