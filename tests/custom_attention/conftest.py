"""The arms of the battery: every file of `variants/`, with each of its options' literal values."""

from __future__ import annotations

import inspect
import pkgutil
import typing

import pytest
import torch

from custom_attention import Variant, attach, lookup, variants
from custom_attention.variant import SCORE_HOOKS
from tests.custom_attention.models import FAMILIES, tiny


def own_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(variants.__path__))


def arms() -> list[dict]:
    """{name: options} for the defaults of each variant and, one at a time, each other literal value."""
    found = []
    for name in own_names():
        cls = lookup.find(name)
        found.append({name: {}})
        hints = typing.get_type_hints(cls.__init__)
        for option, parameter in list(inspect.signature(cls.__init__).parameters.items())[2:]:
            if typing.get_origin(hints[option]) is typing.Literal:
                others = [v for v in typing.get_args(hints[option]) if v != parameter.default]
                found += [{name: {option: value}} for value in others]
    return found


def arm_id(arm: dict) -> str:
    [(name, options)] = arm.items()
    return "-".join([name, *(f"{k}={v}" for k, v in options.items())])


def is_explicit(arm: dict) -> bool:
    """Whether the arm sees the scores, and so takes the explicit path."""
    [name] = arm
    cls = lookup.find(name)
    return any(getattr(cls, hook) is not getattr(Variant, hook) for hook in SCORE_HOOKS)


SELF_ONLY = {"exclusive", "alibi", "relative_bias"}  # variants that need the query's own place among the keys


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(params=arms(), ids=arm_id)
def arm(request) -> dict:
    return request.param


@pytest.fixture
def swapped(family, arm):
    """A tiny model of the family with the arm attached, at self-attention only if it must."""
    return attach_where_possible(tiny(family), arm, family)


def attach_where_possible(model, arm: dict, family: str):
    [name] = arm
    where = {"kind": "self"} if name in SELF_ONLY else None
    return attach(model, arm, where=where)


def changes_nothing(arm: dict, family: str) -> bool:
    """A factor that is the model's own already is refused: there is no such arm."""
    [(name, options)] = arm.items()
    if name == "constant_scale" and options.get("of") == "root_dim":
        return family != "t5"
    return name == "unscaled" and family == "t5"


def pytest_collection_modifyitems(items):
    def runs(item) -> bool:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if "arm" not in params:
            return True
        arm, family = params["arm"], params.get("family", "bert")
        is_default = not next(iter(arm.values()))
        return not changes_nothing(arm, family) and (is_default or family in OPTIONS_ON or len(params) == 1)

    items[:] = [item for item in items if runs(item)]


OPTIONS_ON = ("gpt2", "t5")  # where options other than the defaults are tried, to keep the battery short
EPS = torch.finfo(torch.float32).eps
