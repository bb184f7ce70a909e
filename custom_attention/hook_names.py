"""Refuse a variant class without a hook, or with a method that was meant to be one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from torch import nn

from custom_attention.errors import VariantError
from custom_attention.variant import HOOKS, Variant, overridden_hooks

CALLED = (*HOOKS, "weight_factor", "shared", "on_heads")  # methods of a variant that something calls
DECLARED = ("starts_as_stock", "mixes_heads", "is_control")  # class attributes that something reads
CLOSE = 0.7  # of difflib: "ouput" and "normalise", but not "value" for "scale"


def refuse_wrong_hooks(cls: type[Variant], name: str) -> None:
    """Refuse a class that attention would never call, before anything is built from it.

    Args:
        name: as the user wrote it.

    Raises:
        VariantError: a public method is no hook, a declaration is misspelt, no hook is overridden, or a
            control overrides one.
    """
    known = {*vars(Variant), *dir(nn.Module)} - {"forward"}
    for attribute, value in _own_attributes(cls):
        if attribute in known or attribute.startswith("_"):
            continue
        if _is_method(value):
            hint = _meant(attribute, CALLED)
            what = f"the method {attribute} is no hook, so attention never calls it"
            raise VariantError(name, what, None, f"{hint}{_THE_HOOKS}; the name of a helper begins with _")
        hint = _meant(attribute, DECLARED)
        if hint:
            raise VariantError(name, f"the attribute {attribute} is read by nothing", None, hint.rstrip("? "))
    hooks, is_control = overridden_hooks(cls), vars(cls).get("is_control", False)
    if is_control and hooks:
        what = (
            f"a control (is_control = True) is stock attention, but {', '.join(sorted(hooks))} is overridden"
        )
        raise VariantError(name, what, None, "remove the one or the other")
    if not hooks and not is_control:
        private = (_meant(n.strip("_"), HOOKS) for n, value in _own_attributes(cls) if _is_method(value))
        hint = next(filter(None, private), "")
        what = "it overrides no hook, so it is stock attention under another name"
        control = "a control that is stock attention on purpose has is_control = True"
        raise VariantError(name, what, None, f"{hint}{_THE_HOOKS}; {control}")


_THE_HOOKS = f"the hooks are {', '.join(HOOKS)}"


def _own_attributes(cls: type[Variant]) -> Iterator[tuple[str, object]]:
    """Yield what the class, its bases and its mixins define beyond the contract."""
    for base in cls.__mro__:
        if base not in Variant.__mro__:
            yield from vars(base).items()


def _is_method(value: object) -> bool:
    return isinstance(value, (staticmethod, classmethod)) or (callable(value) and not isinstance(value, type))


def _meant(name: str, names: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=CLOSE)
    return f"did you mean {near[0]}? " if near else ""
