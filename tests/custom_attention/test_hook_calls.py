"""A hook that raises, returns no state or changes nothing is named in one sentence before training."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from custom_attention import Variant, VariantError, attach, prove
from custom_attention.dead import refuse_idle, refuse_untrainable
from custom_attention.hook_calls import watched
from pipelines.registry.own_code import variant_failure
from tests.custom_attention.models import padded, tiny


class Mine(Variant):
    """A variant whose one hook is given by a test."""

    starts_as_stock = False


def attached_with(monkeypatch, family="gpt2", **hooks):
    """A tiny model with a variant that has these hooks."""
    cls = type("Mine", (Mine,), {**hooks, "__module__": __name__})
    monkeypatch.setattr(sys.modules[__name__], "Mine", cls)
    return attach(tiny(family), [f"{__name__}:Mine"])


def refusal(check, model, family="gpt2") -> str:
    with pytest.raises(VariantError) as caught:
        check(model, padded(family).inputs)
    assert str(caught.value).startswith(f"{__name__}:Mine: ")
    return str(caught.value)


def raising(self, states, call):
    raise LookupError("no table\nfor this head")


@pytest.mark.parametrize("hook", ["query", "value", "output", "scores", "mask"])
def test_a_hook_that_raises_is_named_with_its_error_and_line(monkeypatch, hook):
    text = refusal(prove, attached_with(monkeypatch, **{hook: raising}))
    line = raising.__code__.co_firstlineno + 1
    assert (
        f"its hook {hook} raised LookupError: “no table for this head” (test_hook_calls.py, line {line})"
        in text
    )
    assert f"attention calls {hook}(" in text


def test_a_hook_with_other_arguments_is_told_how_it_is_called(monkeypatch):
    text = refusal(prove, attached_with(monkeypatch, key=lambda self, key: key))
    assert "its hook key raised TypeError" in text
    assert "attention calls key(key, call)" in text


@pytest.mark.parametrize(
    ("hook", "written", "said"),
    [
        ("query", lambda self, call, query: query, "a Call and not a tensor"),  # in the other order
        ("output", lambda self, output, call: None, "a NoneType and not a tensor"),
        ("value", lambda self, value, call: value[..., :1], "for one of"),
        ("scores", lambda self, scores, call: scores.sum(-1), "for one of"),
        ("mask", lambda self, visible, call: visible.float(), "torch.float32 and not of torch.bool"),
    ],
)
def test_what_is_no_state_is_refused(monkeypatch, hook, written, said):
    text = refusal(prove, attached_with(monkeypatch, **{hook: written}))
    assert f"its hook {hook} returned" in text
    assert said in text


def test_a_hook_that_raises_in_training_alone_is_found_before_it(monkeypatch):
    def query(self, query, call):
        return query * 2 if not self.training else query.no_such_thing

    model = attached_with(monkeypatch, query=query)
    assert prove(model, padded("gpt2").inputs).passed
    assert "its hook query raised AttributeError" in refusal(refuse_idle, model)


def test_one_that_cannot_be_built_is_named(monkeypatch):
    def build(self, site):
        Variant.__init__(self, site)
        self.sizes = {}["absent"]

    with pytest.raises(
        VariantError, match=r"cannot be built: KeyError: “'absent'” .test_hook_calls\.py, line"
    ):
        attached_with(monkeypatch, __init__=build, query=lambda self, query, call: query)


@pytest.mark.parametrize(
    ("hook", "written"),
    [
        ("query", lambda self, query, call: query),
        ("output", lambda self, output, call: output * 1.0),
        ("scale", lambda self, scale, call: scale),
        ("query_gain", lambda self: torch.ones(self.site.num_heads, 1)),
        ("mask", lambda self, visible, call: visible & True),
        ("position_bias", lambda self, bias, call: bias),
        ("normalize", lambda self, scores, call: scores.softmax(-1)),
    ],
)
@pytest.mark.parametrize("family", ["bert", "t5"])
def test_hooks_that_change_no_bit_are_refused(monkeypatch, family, hook, written):
    text = refusal(refuse_idle, attached_with(monkeypatch, family, **{hook: written}), family)
    assert f"its hooks ({hook}) change no bit" in text


def drawn(self, output, call):
    return output * (torch.rand(()) > -1.0)


def late(self, output, call):
    return output * 2 if call.progress > 0.9 else output


def published(self, value, call):
    call.publish("values", value)
    return value


@pytest.mark.parametrize(
    "hooks",
    [
        {"output": lambda self, output, call: -output},
        {"output": drawn},
        {"output": late},
        {"value": published},
        {"dropout_rate": lambda self, rate, call: rate},
        {"output": lambda self, output, call: output + self.training * 1.0},
    ],
    ids=["changes", "draws", "late", "publishes", "dropout", "in training"],
)
def test_what_does_something_at_some_time_is_not_idle(monkeypatch, hooks):
    model = attached_with(monkeypatch, **hooks)
    model.train()
    state = torch.get_rng_state()
    refuse_idle(model, padded("gpt2").inputs)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())


def test_an_idle_one_beside_a_live_one_is_named(monkeypatch):
    monkeypatch.setattr(Mine, "key", lambda self, key, call: key, raising=False)
    model = attach(tiny("bert"), ["softmax_one", f"{__name__}:Mine"])
    assert "its hooks (key)" in refusal(refuse_idle, model, "bert")


def test_classes_are_as_written_after_the_watch(monkeypatch):
    model = attached_with(monkeypatch, query=raising)
    written, below = Mine.query, type("Below", (Mine,), {"__module__": __name__})
    monkeypatch.setattr(sys.modules[__name__], "Mine", below)
    other = attach(tiny("bert"), [f"{__name__}:Mine"])
    for one, family in ((model, "gpt2"), (other, "bert")):
        with pytest.raises(VariantError):
            prove(one, padded(family).inputs)
    assert below.query is written
    assert "query" not in vars(below)


def test_the_heads_of_a_block_have_their_own_parameters_while_it_is_watched(monkeypatch):
    def build(self, site):
        Variant.__init__(self, site)
        self.bias = nn.Parameter(torch.zeros(site.num_heads, 1, 1))

    hooks = {"__init__": build, "scores": lambda self, scores, call: scores + self.bias}
    model = attached_with(monkeypatch, **hooks)
    monkeypatch.setattr("custom_attention.runtime.dispatch.SCORE_BLOCK", 200)  # a head holds 81
    assert prove(model, padded("gpt2").inputs).passed
    refuse_untrainable(model, padded("gpt2").inputs)


# ---- later than the first batch


def test_an_error_of_a_users_variant_is_told_from_one_of_ours(monkeypatch):
    model = attached_with(monkeypatch, query=raising)
    with pytest.raises(LookupError) as caught:
        model(**padded("gpt2").inputs)
    said = variant_failure(caught.value)
    assert said is not None
    assert said.startswith(f"{__name__}:Mine: its raising raised LookupError: “no table for this head”")
    with pytest.raises(VariantError) as ours, watched(model):
        attach(tiny("gpt2"), ["no_such_variant"])
    assert variant_failure(ours.value) is None
