"""Gradients of large embedding tables, by the rows that a step looks up.

Autograd writes a whole table of zeros for each micro-batch, fills in the few rows that were read, and adds
the tables up: a sixth of a step of a small model. Here each micro-batch hands over its rows, and one table
takes them in, which is cleaned where it was written to. Clipping and the optimizer see a dense gradient as
ever. On a CPU and in one process: DDP and FSDP exchange dense gradients, and a GPU has bandwidth to spare.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

FEWEST_ELEMENTS = 2**20  # of a table; a smaller one costs nothing to write


def large_tables(model: nn.Module) -> list[nn.Embedding]:
    """The embeddings of a model for which rows are worth it."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    plain = [table for table in tables if table.max_norm is None and not table.scale_grad_by_freq]
    return [table for table in plain if table.weight.numel() >= FEWEST_ELEMENTS]


class RowGradients:
    """Takes in the gradients of embedding tables by row, past autograd.

    Between `backward` and what reads `grad` comes `gather`; `clear` takes the place of `zero_grad`.
    """

    def __init__(self, tables: Iterable[nn.Embedding]) -> None:
        self._found: list[tuple[nn.Embedding, Tensor, Tensor]] = []  # table, rows that were read, gradients
        self._dense: dict[nn.Parameter, Tensor] = {}  # tables of gradients, all zero between steps
        for table in tables:
            table.register_forward_hook(self._leaf)

    def _leaf(self, table: nn.Embedding, inputs: tuple[Tensor], looked_up: Tensor) -> Tensor | None:
        """What was looked up, as where the graph begins: its gradient comes here, none goes to the table."""
        if not looked_up.requires_grad:
            return None
        leaf = looked_up.detach().requires_grad_()
        leaf.register_hook(lambda gradient: self._found.append((table, inputs[0], gradient)))
        return leaf

    def gather(self) -> None:
        """Make `grad` of every table what autograd would have made it.

        One that is tied to an output layer has a dense gradient already, and rows are added to that.
        """
        for table, ids, gradient in self._found:
            weight = table.weight
            if weight.grad is None:
                if weight not in self._dense:
                    self._dense[weight] = torch.zeros_like(weight)
                weight.grad = self._dense[weight]
            weight.grad.index_add_(0, *_rows(table, ids, gradient))

    def clear(self, optimizer: torch.optim.Optimizer) -> None:
        """Drop every gradient; a table is cleaned where it was written to. (After a step that was not finite
        all of it may be: clipping multiplies by what is no number. No later step of that run counts.)"""
        optimizer.zero_grad()
        for table, ids, _ in self._found:
            if table.weight in self._dense:
                self._dense[table.weight].index_fill_(0, ids.flatten(), 0.0)
        self._found.clear()


def _rows(table: nn.Embedding, ids: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and what is added to each; one may come more than once, the row of padding does not learn."""
    ids, gradient = ids.flatten(), gradient.reshape(-1, gradient.shape[-1])
    if table.padding_idx is None:
        return ids, gradient
    kept = ids != table.padding_idx
    return ids[kept], gradient[kept]
