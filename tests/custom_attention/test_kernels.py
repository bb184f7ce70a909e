"""Other kernels beside sdpa, as far as a CPU has them: FlexAttention uncompiled, flash's tokens by loops."""

from __future__ import annotations

from functools import wraps
from itertools import pairwise

import pytest
import torch

from custom_attention import Variant, VariantError, attach, attached, load, prove, save, sites, use_kernel
from custom_attention.kernels import flash, flex
from custom_attention.runtime import call
from tests.custom_attention.models import FAMILIES, logits, nudge, padded, tiny, unpadded

BOUND = 200 * torch.finfo(torch.float32).eps  # of outputs of size about 10: two orders of summation
SPECS = {
    "stock": [],
    "mask": ["sliding_window"],
    "bias": ["relative_bias"],
    "whole bias": ["forgetting"],
    "scores": [{"softcap": {"cap": 2.0}}],
    "hooks": ["gate", "temperature", "value_residual"],
    "own kernel": ["linear_attention"],
}
HOOKS_ONLY = ("stock", "hooks", "own kernel")


def both(family, spec, kernel, batch):
    """The outputs on the model's own kernel and on another."""
    where = {"kind": "self"}
    model = attach(tiny(family), spec, where=where)
    nudge(parameter for _, stack in attached(model) for parameter in stack.parameters())
    own = logits(model, batch)
    kernel(model)
    return own, logits(model, batch)


def close(one, other, family, batch):
    rows = padded(family)
    for row in range(len(rows.lengths)):
        gap = (rows.real(one, row) - rows.real(other, row)).abs().max()
        assert gap <= BOUND * one.abs().max()


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5", "llama", "modernbert"])
def test_flex_attention_gives_the_outputs_of_sdpa(family, name, monkeypatch):
    batch, calls = padded(family), []
    counted = wraps(flex.flex_attention)(lambda *a, **k: calls.append(1) or compiled(*a, **k))
    compiled = flex.flex_attention
    monkeypatch.setattr(flex, "flex_attention", counted)
    own, other = both(family, SPECS[name], lambda model: use_kernel(model, "flex"), batch.inputs)
    close(own, other, family, batch)
    assert len(calls) == len(sites(tiny(family)))


def test_flex_attention_is_causal_where_there_is_no_mask():
    own, other = both("gpt2", [], lambda model: use_kernel(model, "flex"), unpadded("gpt2"))
    assert (own - other).abs().max() <= BOUND * own.abs().max()


def by_loops(query, key, value, of_queries, of_keys, most_queries, most_keys, causal, scale):
    """Attention over tokens as flash computes it: each example by itself, key heads shared."""
    found = []
    for (begin, end), (first, last) in zip(pairwise(of_queries), pairwise(of_keys)):
        assert end - begin <= most_queries
        assert last - first <= most_keys
        q, k, v = (s.transpose(0, 1) for s in (query[begin:end], key[first:last], value[first:last]))
        k, v = (s.repeat_interleave(q.shape[0] // s.shape[0], 0) for s in (k, v))
        scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        found.append((scores.softmax(-1) @ v).transpose(0, 1))
    return torch.cat(found)


def use_loops(model, monkeypatch):
    monkeypatch.setattr(flash, "_flash", by_loops)
    use_kernel(model, "flash")


@pytest.mark.parametrize("name", HOOKS_ONLY)
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "bart"])
def test_tokens_without_padding_give_the_outputs_of_sdpa(family, name, monkeypatch):
    batch = padded(family)
    own, other = both(family, SPECS[name], lambda model: use_loops(model, monkeypatch), batch.inputs)
    close(own, other, family, batch)
    assert not torch.equal(own, other)


def test_tokens_without_padding_have_the_gradients_of_sdpa(monkeypatch):
    gradients = []
    for kernel in (None, "flash"):
        model = attach(tiny("gpt2"), "gate")
        if kernel:
            use_loops(model, monkeypatch)
        batch = padded("gpt2")
        output = model(**batch.inputs).logits
        torch.cat([batch.real(output, row) for row in range(3)]).square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_decoding_with_a_cache_gives_the_tokens_of_sdpa(monkeypatch):
    asked = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    inputs = {n: v for n, v in padded("gpt2").inputs.items() if n != "position_ids"}
    expected = tiny("gpt2").generate(**inputs, **asked)
    flexible, tokens = (attach(tiny("gpt2"), []) for _ in range(2))
    use_kernel(flexible, "flex")
    use_loops(tokens, monkeypatch)
    for model in (flexible, tokens):
        assert torch.equal(model.generate(**inputs, **asked), expected)


class SeesItsHead(Variant):
    """A change of a score that depends on its head."""

    starts_as_stock = False

    def scores(self, scores, call):
        return scores * torch.arange(1, scores.shape[1] + 1)[:, None, None]


class SeesTheCall(Variant):
    starts_as_stock = False

    def scores(self, scores, call):
        return scores + call.query.sum()


REFUSED = {
    "flex-softmax": ("flex", "bert", "entmax", "replaces the softmax"),
    "flex-heads": ("flex", "bert", "talking_heads", "replaces the softmax|more than the one score"),
    "flex-own-head": ("flex", "bert", f"{__name__}:SeesItsHead", "more than the one score"),
    "flex-call": ("flex", "bert", f"{__name__}:SeesTheCall", "more than the one score"),
    "flash-scores": ("flash", "bert", "softcap", "no place for the hook scores"),
    "flash-mask": ("flash", "bert", "sliding_window", "no place for the hook mask"),
    "flash-bias": ("flash", "gpt2", "alibi", "no place for the hook (position|offset)_bias"),
    "flash-t5": ("flash", "t5", "gate", "adds a position bias"),
    "unknown": ("cudnn", "bert", "gate", "one of flex, flash"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_variant_that_a_kernel_cannot_compute_is_refused_with_its_name(case):
    kernel, family, spec, reason = REFUSED[case]
    model = attach(tiny(family), spec, where={"kind": "self"})
    with pytest.raises(VariantError, match=reason):
        use_kernel(model, kernel)


def test_a_window_is_no_padding_so_flash_refuses_it(monkeypatch):
    model = attach(tiny("modernbert"), [])
    use_loops(model, monkeypatch)
    with pytest.raises(VariantError, match="hides more than padding and later keys"):
        logits(model, padded("modernbert").inputs)


def test_what_a_kernel_does_not_have_stops_a_forward():
    inputs = padded("bert").inputs
    flexible, flat = (attach(tiny("bert"), "gate") for _ in range(2))
    use_kernel(flexible, "flex")
    use_kernel(flat, "flash")
    with pytest.raises(VariantError, match="no backward pass on a CPU"):
        flexible(**inputs)
    with pytest.raises(VariantError, match="float32 on cpu"):
        flat(**inputs)
    for model in (flexible, flat):
        with torch.no_grad(), pytest.raises(VariantError, match=r"has no dropout.*\(got 0\.1|0\.1"):
            model.train()(**inputs)


def test_another_kernel_is_for_an_attached_model_on_sdpa():
    with pytest.raises(VariantError, match="nothing is attached"):
        use_kernel(tiny("bert"), "flex")
    eager = tiny("bert")
    eager.set_attn_implementation("eager")
    with pytest.raises(VariantError, match=r"another kernel.*eager"):
        use_kernel(attach(eager, []), "flex")


def test_a_model_is_saved_as_on_its_own_kernel(tmp_path):
    model, inputs = attach(tiny("bert"), "gate"), padded("bert").inputs
    own = logits(model, inputs)
    use_kernel(model, "flex")
    save(model, tmp_path / "saved")
    assert torch.equal(logits(load(tmp_path / "saved"), inputs), own)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "deberta"])  # its kernel is eager
def test_a_swap_is_proven_on_another_kernel_up_to_rounding(family):
    model = attach(tiny(family), "gate")
    use_kernel(model, "flex")
    proof = prove(model, padded(family).inputs)
    assert proof.passed
    assert proof.bound > 0


def test_training_on_a_cpu_does_not_go_by_blocks_in_place_of_the_kernel(monkeypatch):
    monkeypatch.setattr(call, "FEWEST_SCORES", 0)  # a bias that is learned would be computed in blocks
    model = attach(tiny("gpt2"), "relative_bias").train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model(**padded("gpt2").inputs)
    use_kernel(model, "flex")
    with pytest.raises(VariantError, match="no backward pass on a CPU"):
        model(**padded("gpt2").inputs)
