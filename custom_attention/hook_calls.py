"""Watch the hooks of variants in a forward: one that raises, returns no state, or changes nothing."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from custom_attention.attach import attached
from custom_attention.errors import VariantError
from custom_attention.user_code import told
from custom_attention.variant import Variant, overridden_hooks

SAME_SHAPE = ("query", "key", "value", "output", "projected", "scores", "normalize", "dropout")
TENSORS = (*SAME_SHAPE, "query_gain", "output_gain", "mask", "offset_bias", "attend")

Seen = Callable[[type[Variant], str, tuple[Any, ...], Any], None]  # class, hook, its arguments, its result


@contextmanager
def watched(model: nn.Module, see: Seen = lambda *_: None) -> Iterator[None]:
    """Call `see` after each hook of the attached variants, and name the hook that raises or returns no state.

    The classes are changed and not the instances, because a hook may run on a copy (`Variant.on_heads`).

    Raises:
        VariantError: in the block; a hook of a variant has failed.
    """
    names = {
        type(variant): name
        for _, stack in attached(model)
        for variant, (name, _) in zip(stack.variants, stack.recipe)
    }
    hooks = [
        (cls, hook, inspect.getattr_static(cls, hook)) for cls in names for hook in overridden_hooks(cls)
    ]
    inherited = {(cls, hook): hook not in vars(cls) for cls, hook, _ in hooks}
    try:
        for cls, hook, written in hooks:
            setattr(cls, hook, _watching(names[cls], hook, written, functools.partial(see, cls, hook)))
        yield
    finally:
        for cls, hook, written in hooks:
            if inherited[cls, hook]:
                delattr(cls, hook)
            else:
                setattr(cls, hook, written)


def _watching(name: str, hook: str, written: Any, see: Callable[[tuple[Any, ...], Any], None]) -> Any:
    """Return a method that calls the hook as it is written."""

    def method(self: Variant, *args: Any) -> Any:
        try:
            result = written.__get__(self, type(self))(*args)
        except (VariantError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # the user's own code may raise anything
            what = f"its hook {hook} raised {told(error)}"
            raise VariantError(name, what, accepted=_called(hook)) from error
        wrong = _wrong(hook, args, result)
        if wrong is not None:
            raise VariantError(name, f"its hook {hook} returned {wrong}", accepted=_called(hook))
        see(args, result)
        return result

    return method


def _called(hook: str) -> str:
    parameters = list(inspect.signature(getattr(Variant, hook)).parameters)
    return f"attention calls {hook}({', '.join(parameters[1:])}), see custom_attention.Variant"


def _wrong(hook: str, args: tuple[Any, ...], result: Any) -> str | None:
    """Return what a hook returned in place of a state; None if nothing is wrong with it."""
    if hook in TENSORS and not isinstance(result, Tensor):
        return f"a {type(result).__name__} and not a tensor"
    if hook == "transfer" and not isinstance(result, Tensor | None):
        return f"a {type(result).__name__} and neither a tensor nor None"
    if hook == "transfer" and result is not None and result.shape != args[0].shape[::2][:2]:
        return f"a tensor of {tuple(result.shape)} for (batch, query_len) = {tuple(args[0].shape[::2][:2])}"
    if hook == "mask" and result.dtype != torch.bool:
        return f"a tensor of {result.dtype} and not of torch.bool"
    if hook in SAME_SHAPE and result.shape != args[0].shape:
        return f"a tensor of {tuple(result.shape)} for one of {tuple(args[0].shape)}"
    return None


def changes(hook: str, args: tuple[Any, ...], result: Any) -> bool:
    """Return whether a hook, called while the model does not train, does more than stock attention."""
    match hook:
        case "query_gain" | "output_gain":
            return bool((result != 1).any())
        case "offset_bias":
            return bool((result != 0).any())
        case "normalize":
            return not torch.equal(result, torch.softmax(args[0], dim=-1))
        case "attend" | "dropout" | "dropout_rate":  # in place of the model's own, which evaluation lacks
            return True
        case "transfer":
            return result is not None
    before = args[0]
    if isinstance(before, Tensor) and isinstance(result, Tensor):
        return not torch.equal(before, result)
    return before is not result and bool(before != result)
