"""Find the tables of positions of a model: embeddings that give their own rows in order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

FEWEST = 3  # tokens; two neighbours may be neighbours by chance


class PositionTables:
    """Finds, in the forwards of a block, the embeddings that are tables of positions.

    Attributes:
        names: paths of the tables in the model.
    """

    def __init__(self) -> None:
        self.names: list[str] = []

    @contextmanager
    def observed(self, model: PreTrainedModel) -> Iterator[None]:
        """Look for tables in the forwards of the block."""
        parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
        of_tokens = {id(part.get_input_embeddings()) for part in parts if _has_input_embeddings(part)}
        handles = [
            module.register_forward_hook(self._noting(name))
            for name, module in model.named_modules()
            if isinstance(module, nn.Embedding) and id(module) not in of_tokens
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def nearest(self, name: str) -> str:
        """Return the table of the stack that a module is in, with most of its path in common; "" of none."""

        def in_common(table: str) -> int:
            pairs = zip(table.split("."), name.split("."))
            return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

        return max(self.names, key=in_common, default="")

    def _noting(self, name: str) -> Any:
        def note(table: nn.Module, _: object, output: Any) -> None:
            if name not in self.names and isinstance(output, Tensor) and _gives_rows_in_order(table, output):
                self.names.append(name)

        return note


def _has_input_embeddings(part: PreTrainedModel) -> bool:
    try:
        return part.get_input_embeddings() is not None
    except (AttributeError, NotImplementedError):
        return False


def _gives_rows_in_order(table: nn.Module, output: Tensor) -> bool:
    """Return whether an output, (batch, len, size) or (len, size), is rows n, n + 1, ... of the table."""
    weight = table.weight
    rows = output.reshape(-1, *output.shape[-2:])[0] if output.dim() in (2, 3) else output[:0]
    if not isinstance(weight, Tensor) or weight.dim() != 2 or len(rows) < FEWEST:
        return False
    starts = (weight == rows[0]).all(-1).nonzero().flatten().tolist()
    return any(
        start + len(rows) <= len(weight) and bool((weight[start : start + len(rows)] == rows).all())
        for start in starts
    )
