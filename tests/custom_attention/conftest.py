"""The arms of the battery: every file of `variants/`, with other values of each of its options."""

from __future__ import annotations

import copy
import inspect
import pkgutil
import typing

import pytest
import torch

from custom_attention import Variant, attach, registry, variants
from custom_attention.variant import SCORE_HOOKS
from tests.custom_attention.models import FAMILIES, tiny


def own_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(variants.__path__))


def arms() -> list[dict]:
    """{name: options} for the defaults of each variant and, one option at a time, its other values."""
    found = []
    for name in own_names():
        cls = registry.find(name)
        found.append({name: {}})
        hints = typing.get_type_hints(cls.__init__)
        for option, parameter in list(inspect.signature(cls.__init__).parameters.items())[2:]:
            found += [{name: {option: value}} for value in other_values(hints[option], parameter.default)]
    return found


def other_values(hint, default) -> list:
    """Return every other choice of a Literal, or half of a number, or nothing."""
    if typing.get_origin(hint) is typing.Literal:
        return [value for value in typing.get_args(hint) if value != default]
    if hint is bool:
        return [not default]
    return [hint(default / 2)] if hint in (int, float) and default else []


def arm_id(arm: dict) -> str:
    [(name, options)] = arm.items()
    return "-".join([name, *(f"{k}={v}" for k, v in options.items())])


def replaces_kernel(arm: dict) -> bool:
    """Whether the arm computes attention by its own code; a site takes one of those."""
    [name] = arm
    return registry.find(name).attend is not Variant.attend


def is_explicit(arm: dict) -> bool:
    """Whether the arm sees the scores, and so takes the explicit path."""
    [name] = arm
    cls = registry.find(name)
    return any(getattr(cls, hook) is not getattr(Variant, hook) for hook in SCORE_HOOKS)


# Variants that need the query's own place among the keys.
SELF_ONLY = {
    "exclusive",
    "alibi",
    "forgetting",
    "multi_token",
    "position",
    "relative_bias",
    "selective",
    "sinkhorn",
    "sliding_window",
}


ROTARY = ("modernbert", "llama")  # positions are in the queries already


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(params=arms(), ids=arm_id)
def arm(request) -> dict:
    return request.param


@pytest.fixture
def swapped(family, arm):
    """A tiny model of the family with the arm attached, at self-attention only if it must."""
    key = (family, arm_id(arm))
    if key not in _swapped:
        _swapped[key] = attach_where_possible(tiny(family), arm, family)
    return copy.deepcopy(_swapped[key])


_swapped: dict = {}  # a copy is cheaper than a probing forward


def attach_where_possible(model, arm: dict, family: str):
    [name] = arm
    where = {"kind": "self"} if name in SELF_ONLY else None
    return attach(model, arm, where=where)


def is_refused(arm: dict, family: str) -> bool:
    """Return whether a family refuses the arm: it is the model's own, or W_q makes its position bias too."""
    [(name, options)] = arm.items()
    if family == "deberta" and options.get("mode") == "compensated":
        return True
    if name == "position":
        return family in ROTARY and options.get("scheme") != "learned"
    if name == "constant_scale" and options.get("of") == "root_dim":
        return family != "t5"
    return name == "unscaled" and family == "t5"


def pytest_collection_modifyitems(items):
    def runs(item) -> bool:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if "arm" not in params:
            return True
        return not is_refused(params["arm"], params.get("family", "bert"))

    items[:] = [item for item in items if runs(item)]


EPS = torch.finfo(torch.float32).eps
