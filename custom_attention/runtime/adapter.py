"""Give the seam to attention modules of transformers whose own forward does not dispatch.

Needs only torch: an exported model that has an adapter carries a copy of this file.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


class Adapter(nn.Module):
    """First base class of an adapter; the second is the attention class of transformers that it stands for.

    Its `forward` has the arguments of that class and calls `dispatch.attention`. A module becomes its adapter
    by a change of its class, so that parameters, their names and hooks stay as they are.
    """

    is_causal = False

    @classmethod
    def stock_class(cls) -> type[nn.Module]:
        """Return the class that this one stands for."""
        stock: type[nn.Module] = cls.__bases__[-1]
        return stock


def put_on(model: nn.Module, adapters: Iterable[type[Adapter]]) -> list[Adapter]:
    """Turn every attention module that one of `adapters` stands for into it, and return those."""
    by_stock = {adapter.stock_class(): adapter for adapter in adapters}
    changed = [module for module in model.modules() if type(module) in by_stock]
    for module in changed:
        module.__class__ = by_stock[type(module)]
    return [module for module in changed if isinstance(module, Adapter)]


def take_off(modules: Iterable[nn.Module]) -> list[Adapter]:
    """Turn the adapters among `modules` back, and return them."""
    changed = [module for module in modules if isinstance(module, Adapter)]
    for module in changed:
        module.__class__ = module.stock_class()  # type: ignore[assignment]
    return changed
