"""The textbook module against hand-made numbers and torch, and the variants against the textbook module."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from custom_attention import ScaledSelfAttention, VariantError, attach, attached, variant_parameters
from custom_attention.scaled_self_attention import PROJECTIONS, SCALES
from custom_attention.variants.entmax import entmax15
from tests.custom_attention.models import nudge, padded, tiny

EPS = torch.finfo(torch.float64).eps
CLOSE = {"rtol": 0, "atol": 200 * EPS}


def draw(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("scale", ["none", "1/sqrt(d_k)"])
def test_two_tokens_by_hand(scale):
    """Embeddings as queries, keys and values; the expected numbers are computed with `math`."""
    tokens = [[0.5, 0.3, 0.2], [0.1, 0.2, 0.9]]
    factor = 1 / math.sqrt(3) if scale != "none" else 1.0
    attention = ScaledSelfAttention(3, projections="none", scale=scale)
    output, weights = attention(torch.tensor([tokens], dtype=torch.float64), return_weights=True)
    for i, query in enumerate(tokens):
        powers = [math.exp(factor * sum(a * b for a, b in zip(query, key))) for key in tokens]
        by_hand = [power / sum(powers) for power in powers]
        assert weights[0, 0, i].tolist() == pytest.approx(by_hand, abs=4 * EPS)
        mixed = [sum(w * token[k] for w, token in zip(by_hand, tokens)) for k in range(3)]
        assert output[0, i].tolist() == pytest.approx(mixed, abs=4 * EPS)


def test_without_projections_there_is_nothing_to_learn():
    parameters = {p: list(ScaledSelfAttention(6, projections=p).parameters()) for p in PROJECTIONS}
    assert [len(parameters[p]) for p in PROJECTIONS] == [0, 2, 8]


def test_a_shared_projection_gives_symmetric_scores():
    attention = ScaledSelfAttention(6, num_heads=2, projections="shared").double()
    states = attention.heads(attention.query(draw(2, 5, 6)))
    scores = attention.scores(states, states)
    torch.testing.assert_close(scores, scores.transpose(2, 3), **CLOSE)
    assert not torch.allclose(scores[:, 0], scores[:, 1])


@pytest.mark.parametrize("masked", [False, True])
def test_it_equals_torchs_multihead_attention(masked):
    attention, theirs = (
        ScaledSelfAttention(12, num_heads=3).double(),
        nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64),
    )
    with torch.no_grad():
        parts = (attention.query, attention.key, attention.value)
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        theirs.out_proj.load_state_dict(attention.output.state_dict())
    x = draw(2, 7, 12)
    mask = torch.ones(7, 7, dtype=torch.bool).tril() if masked else None
    output, weights = attention(x, mask, return_weights=True)
    expected, their_weights = theirs(
        x, x, x, attn_mask=None if mask is None else ~mask, average_attn_weights=False
    )
    torch.testing.assert_close(output, expected, **CLOSE)
    torch.testing.assert_close(weights, their_weights, **CLOSE)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("projections", PROJECTIONS)
def test_it_equals_torchs_fused_kernel(projections, scale):
    attention = ScaledSelfAttention(10, num_heads=2, projections=projections, scale=scale).double()
    nudge([p for name, p in attention.named_parameters() if name == "log_temperature"])
    x, mask = draw(3, 6, 10), draw(3, 1, 6, 6, seed=6) > -0.3
    query, key, value = (attention.heads(p(x)) for p in (attention.query, attention.key, attention.value))
    factor = torch.as_tensor(attention.constant, dtype=x.dtype)
    if attention.log_temperature is not None:
        factor = factor * attention.log_temperature.exp()
    expected = nn.functional.scaled_dot_product_attention(query * factor, key, value, mask, scale=1.0)
    got = attention(x, mask)
    torch.testing.assert_close(got, attention.output(expected.transpose(1, 2).flatten(2)), **CLOSE)


def test_a_query_without_visible_keys_gets_zeros():
    attention = ScaledSelfAttention(4, projections="none")
    x = draw(1, 3, 4).float().requires_grad_()
    mask = torch.tensor([[True, True, True], [False, False, False], [False, True, True]])
    output, weights = attention(x, mask, return_weights=True)
    assert not output[0, 1].any()
    assert not weights[0, 0, 1].any()
    assert weights[0, 0, 2, 0] == 0


@pytest.mark.parametrize(
    "wrong", [{"num_heads": 4}, {"num_heads": 0}, {"projections": "own"}, {"scale": "1/d"}], ids=str
)
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(VariantError, match=next(iter(wrong))):
        ScaledSelfAttention(6, **wrong)


# ---- the variants that have a textbook form, on a layer of BERT ------------------------------------------


class Textbook(ScaledSelfAttention):
    """The module with one step replaced: the factor, the scores or the normaliser."""

    factor, cap, mix = 1.0, None, None

    def scores(self, query, key):
        scores = super().scores(query, key) * self.factor
        return scores if self.cap is None else self.cap * torch.tanh(scores / self.cap)

    def weigh(self, scores, mask):
        if self.mix is None:
            return super().weigh(scores, mask)
        amount = torch.tanh(self.mix)
        return (1 - amount) * super().weigh(scores, mask) + amount * entmax15(scores.masked_fill(~mask, -1e9))


def textbook(layer, **step) -> Textbook:
    """Return the attention of one BERT layer as a textbook module with the same weights."""
    own = layer.attention.self
    module = Textbook(own.all_head_size, num_heads=own.num_attention_heads).double()
    for name, linear in (
        ("query", own.query),
        ("key", own.key),
        ("value", own.value),
        ("output", layer.attention.output.dense),
    ):
        getattr(module, name).load_state_dict(linear.state_dict())
    for name, value in step.items():
        setattr(module, name, value)
    return module


FORMS = {
    "stock": ("stock", lambda p, d: {}),
    "unscaled": ("unscaled", lambda p, d: {"factor": math.sqrt(d)}),
    "compensated": ({"unscaled": {"mode": "compensated"}}, lambda p, d: {"factor": math.sqrt(d)}),
    "1/d": ("constant_scale", lambda p, d: {"factor": d**-0.5}),
    "2/sqrt(d)": ({"constant_scale": {"of": "root_dim", "factor": 2.0}}, lambda p, d: {"factor": 2.0}),
    "temperature": ("temperature", lambda p, d: {"factor": p["log_temperature"].exp()[:, None, None]}),
    "softcap": ({"softcap": {"cap": 1.5}}, lambda p, d: {"cap": 1.5}),
    "entmax": ("entmax", lambda p, d: {"mix": p["mix"].detach()}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_variant_equals_its_formula(form):
    spec, step = FORMS[form]
    model = attach(tiny("bert").double(), spec)
    nudge(variant_parameters(model).values())
    inputs = padded("bert").inputs
    mask, seen = inputs["attention_mask"].bool(), {}
    layers = model.bert.encoder.layer
    for index, layer in enumerate(layers):
        layer.attention.register_forward_pre_hook(
            lambda _, args, kwargs, index=index: seen.update({(index, "x"): args[0]}), with_kwargs=True
        )
        layer.attention.output.dense.register_forward_hook(
            lambda *call, index=index: seen.update({(index, "output"): call[-1]})
        )
    with torch.no_grad():
        model(**inputs)
        for index, (module, stack) in enumerate(attached(model)):
            parameters = dict(stack[0].named_parameters()) if len(stack) else {}
            oracle = textbook(layers[index], **step(parameters, module.attention_head_size))
            expected = oracle(seen[index, "x"], mask[:, None, None])
            torch.testing.assert_close(seen[index, "output"], expected, **CLOSE)
