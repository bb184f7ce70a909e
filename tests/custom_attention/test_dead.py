"""A variant that can do nothing is refused by its class, its declaration or its gradients."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from custom_attention import Variant, VariantError, attach, attached, prove
from custom_attention.dead import refuse_untrainable
from custom_attention.hook_names import refuse_wrong_hooks
from custom_attention.variants.gate import Gate
from custom_attention.variants.stock import Stock
from pipelines.config.load import load_run
from pipelines.errors import UserError
from pipelines.models.attention import attach_and_prove
from tests.custom_attention.models import logits, padded, tiny


def written(base=Variant, **attributes):
    """A class as a user writes it."""
    return type("Mine", (base,), attributes)


def hook(self, *states):
    return states[0]


def refusal(cls) -> str:
    with pytest.raises(VariantError) as caught:
        refuse_wrong_hooks(cls, "my_module:Mine")
    assert str(caught.value).startswith("my_module:Mine: ")
    return str(caught.value)


@pytest.mark.parametrize(
    ("method", "meant"),
    [
        ("ouput", "output"),
        ("Output", "output"),
        ("normalise", "normalize"),
        ("qurey", "query"),
        ("keys", "key"),
        ("values", "value"),
        ("masks", "mask"),
        ("attends", "attend"),
        ("projection", "projected"),
        ("drop_out", "dropout"),
        ("dropout_rates", "dropout_rate"),
        ("penalties", "penalty"),
        ("score", "scores"),
        ("query_gains", "query_gain"),
        ("positional_bias", "position_bias"),
        ("weight_factors", "weight_factor"),
    ],
)
@pytest.mark.parametrize("beside", [{}, {"output_gain": hook}], ids=["alone", "beside a hook"])
@pytest.mark.parametrize("kind", [lambda f: f, staticmethod, classmethod], ids=["method", "static", "class"])
def test_a_misspelt_hook_is_refused_with_the_hook_that_was_meant(method, meant, beside, kind):
    text = refusal(written(**{method: kind(hook)}, **beside))
    assert f"the method {method} is no hook" in text
    assert f"did you mean {meant}?" in text


@pytest.mark.parametrize("method", ["hidden", "forward", "attention_weights"])
def test_a_method_that_is_near_no_hook_is_refused_with_the_list_of_hooks(method):
    text = refusal(written(**{method: hook}, query=hook))
    assert f"the method {method} is no hook" in text
    assert "did you mean" not in text
    assert "the hooks are scale, query_gain, output_gain, query, key" in text


def test_a_class_without_a_hook_is_refused_unless_it_says_that_it_is_a_control():
    assert "overrides no hook" in refusal(written())
    assert "did you mean output?" in refusal(written(_ouput=hook))
    refuse_wrong_hooks(written(is_control=True), "control")
    refuse_wrong_hooks(Stock, "stock")


def test_what_is_declared_for_a_control_is_not_inherited_and_goes_with_no_hook():
    assert "overrides no hook" in refusal(written(Stock))
    assert "but query is overridden" in refusal(written(is_control=True, query=hook))
    refuse_wrong_hooks(written(Stock, output=hook), "mine")


def test_a_misspelt_declaration_is_refused():
    assert "did you mean mixes_heads" in refusal(written(scores=hook, mixes_head=True))
    refuse_wrong_hooks(written(scores=hook, scales=(1, 2)), "mine")


def test_methods_of_mixins_and_bases_count_and_helpers_are_free():
    assert "the method keys is no hook" in refusal(type("Mine", (written(keys=hook),), {"query": hook}))
    assert "the method ouput is no hook" in refusal(
        type("Mine", (type("M", (), {"ouput": hook}), Variant), {})
    )
    refuse_wrong_hooks(written(Gate), "mine")
    refuse_wrong_hooks(
        written(query=hook, _gated=hook, extra_repr=lambda self: "", size=property(lambda self: 1)), "mine"
    )


# ---- the declaration and the gradients, on a model


class Dead(Variant):
    """A parameter for each way in which one can be dead, at the start or everywhere."""

    def __init__(self, site, *, way: str) -> None:
        super().__init__(site)
        self.way, self.live = way, nn.Parameter(torch.zeros(1))
        self.weight = nn.Parameter(torch.zeros(site.num_heads, 1, 1))
        self.other = nn.Parameter(torch.zeros(1))

    def output(self, output, call):
        weight = {
            "unused": 0.0,
            "detached": self.weight.detach(),
            "one site": self.weight if self.site.layer else 0.0,
            "two factors of zero": self.weight * self.other,
            "one factor of zero": self.weight * (1 + self.other),
            "only in training": self.weight if self.training else 0.0,
        }[self.way]
        if self.way in ("two factors of zero", "one factor of zero", "only in training"):
            extra = self.live * (self.other if self.way == "only in training" else 0.0)
            return output * (1 + weight + extra + self.live * (self.way == "one factor of zero"))
        return output * (1 + weight + self.live + self.other)


DEAD = ["unused", "detached", "one site"]
FAMILIES = ("bert", "gpt2", "t5", "llama")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", DEAD)
def test_a_parameter_that_no_training_moves_is_refused_by_its_name_and_hook(outside, family, way):
    model = attach(tiny(family), {f"{outside}:Dead": {"way": way}})
    with pytest.raises(VariantError, match=r"its parameter weight .*\(its hooks: output\)"):
        refuse_untrainable(model, padded(family).inputs)


def test_a_variant_of_which_every_gradient_starts_at_zero_is_refused(outside):
    model = attach(tiny("gpt2"), {f"{outside}:Dead": {"way": "two factors of zero"}})
    with pytest.raises(VariantError, match=r"its parameters \(live, weight, other\) get a gradient of 0"):
        refuse_untrainable(model, padded("gpt2").inputs)


@pytest.mark.parametrize("way", ["one factor of zero", "only in training"])
def test_a_gradient_that_is_zero_at_the_start_only_is_accepted_and_nothing_is_changed(outside, way):
    model, inputs = attach(tiny("bert"), {f"{outside}:Dead": {"way": way}}), padded("bert").inputs
    model.train()
    before, state = torch.get_rng_state(), {n: p.clone() for n, p in model.state_dict().items()}
    refuse_untrainable(model, inputs)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert all(module.training for module in model.modules())


class Idle(Variant):
    def value(self, value, call):
        return value.clone()


@pytest.fixture
def outside():
    """This module under the name by which a run names its classes."""
    return sys.modules[__name__].__name__


# ---- a run


def run_of(attention: str, *more: str):
    model = "model={architecture: bert, family: encoder, vocab_size: 300, config: {hidden_size: 24}}"
    data = "data={generated: {name: ner, train: 9, validation: 9, test: 9}}"
    return load_run([], ["task=ner", data, model, "num_epochs=1", f"attention={attention}", *more])


@pytest.mark.parametrize(
    ("attention", "said"),
    [
        ("[{'OUTSIDE:Dead': {way: detached}}]", "its parameter weight"),
        ("['OUTSIDE:Idle']", "change no bit of a batch, so it is stock attention"),
    ],
)
def test_a_run_is_refused_before_training(outside, attention, said):
    with pytest.raises(UserError, match=said):
        attach_and_prove(run_of(attention.replace("OUTSIDE", outside)), tiny("bert"), padded("bert").inputs)


def test_a_frozen_variant_runs_and_so_does_a_live_one(outside):
    frozen = run_of(f"[{{'{outside}:Dead': {{way: detached}}}}]", "train_variant=false")
    for run in (frozen, run_of("[gate]"), run_of("[stock]"), run_of("[]")):
        model, proof = attach_and_prove(run, tiny("bert"), padded("bert").inputs)
        assert proof.passed
        assert attached(model)


def test_a_batch_of_real_rows_only_and_a_bfloat16_model_are_no_reason(outside):
    inputs = padded("t5").inputs
    model = attach(
        tiny("t5").to(torch.bfloat16), ["temperature", "gate", "relative_bias"], where={"kind": "self"}
    )
    refuse_untrainable(model, inputs)
    assert prove(model, inputs).passed
    assert logits(model, inputs).isfinite().all()
