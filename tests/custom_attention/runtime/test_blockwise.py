"""The explicit path in blocks of scores: the same function, gradients and draws, in bounded memory."""

from __future__ import annotations

import warnings

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from custom_attention import Variant, registry
from custom_attention.runtime import dispatch
from custom_attention.runtime.call import Call
from custom_attention.runtime.dispatch import Stack
from tests.custom_attention.conftest import EPS, arm_id, arms, is_explicit
from tests.custom_attention.models import nudge
from tests.custom_attention.runtime.test_dispatch import (
    BATCH,
    HEADS,
    KEY_HEADS,
    KEY_LEN,
    QUERY_LEN,
    module,
    site,
    some_mask,
    stack,
    states,
)

EXPLICIT = [arm for arm in arms() if is_explicit(arm)]
ROW, HEAD = KEY_LEN, QUERY_LEN * KEY_LEN
EXAMPLE = HEADS * HEAD
BOUNDS = {"examples": EXAMPLE, "heads": 2 * HEAD + 3, "rows": 2 * ROW + 1, "less than a row": 1}


def explicit_stack(arm: dict) -> Stack:
    [(name, options)] = arm.items()
    here = site()
    variant = registry.find(name)(here, **options)
    nudge(variant.parameters())
    return Stack([variant], sdpa_attention_forward, "sdpa", here)


def run(attention: Stack, mask, bias, dropout: float):
    """Output and the gradients of states, bias and parameters, from one seed."""
    inputs = [s.requires_grad_() for s in states(dtype=torch.float32)]
    kwargs = {} if bias is None else {"position_bias": bias.requires_grad_()}
    torch.manual_seed(5)
    output, _ = attention(module(), *inputs, mask, 0.3, dropout, kwargs)
    wanted = [*inputs, *kwargs.values(), *attention.parameters()]
    weight = torch.linspace(-1, 1, output.numel()).view_as(output)
    return [output, *torch.autograd.grad((output * weight).sum(), wanted)]


@pytest.mark.parametrize("arm", EXPLICIT, ids=arm_id)
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("masked", [True, False], ids=["mask and bias", "causal"])
@pytest.mark.filterwarnings("ignore:.*query rows at a time")
def test_blocks_give_the_output_gradients_and_draws_of_one_block(arm, bound, masked, monkeypatch):
    attention = explicit_stack(arm)
    mask = some_mask()[:, None] if masked else None
    bias = torch.randn(1, HEADS, QUERY_LEN, KEY_LEN) if masked else None
    mixes = any(variant.mixes_heads for variant in attention)
    dropout = (
        0.0 if mixes and bound not in ("examples",) else 0.4
    )  # rows of mixed heads draw in another order
    whole = run(attention, mask, bias, dropout)
    monkeypatch.setattr(dispatch, "SCORE_BLOCK", BOUNDS[bound])
    for one, two in zip(run(attention, mask, bias, dropout), whole, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=100 * EPS)


class Recording(Variant):
    """Stock attention that records the arguments of its hook."""

    def __init__(self, here) -> None:
        super().__init__(here)
        self.seen = []

    def scores(self, scores, call):
        self.seen.append((scores, call))
        return scores


@pytest.mark.parametrize("bound", [bound for bound in BOUNDS if bound != "less than a row"])
@pytest.mark.filterwarnings("ignore:.*query rows at a time")
def test_no_block_exceeds_the_bound_or_is_smaller_than_necessary(bound, monkeypatch):
    monkeypatch.setattr(dispatch, "SCORE_BLOCK", BOUNDS[bound])
    attention = stack(Recording)
    attention(module(), *states(), some_mask()[:, None], 0.3, 0.0, {})
    shapes = [tuple(scores.shape[:3]) for scores, _ in attention[0].seen]
    assert all(b * h * q * KEY_LEN <= BOUNDS[bound] for b, h, q in shapes)
    first = {"examples": (1, HEADS, QUERY_LEN), "heads": (1, 2, QUERY_LEN), "rows": (1, 1, 2)}[bound]
    assert shapes[0] == first
    assert sum(b * h * q for b, h, q in shapes) == BATCH * HEADS * QUERY_LEN


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.filterwarnings("ignore:.*query rows at a time")
def test_a_block_has_the_counts_and_positions_of_its_rows(bound, mask, monkeypatch):
    monkeypatch.setattr(dispatch, "SCORE_BLOCK", BOUNDS[bound])
    attention, (query, key, value) = stack(Recording), states(QUERY_LEN, QUERY_LEN)
    given = some_mask()[:, None, :, :QUERY_LEN] if mask else None
    attention(module(), query, key, value, given, 0.3, 0.0, {})
    whole = Call(attention, module(), query, key, value, given, 0.3, 0.0, {})
    key, value = (states.repeat_interleave(HEADS // KEY_HEADS, 1) for states in (key, value))
    for scores, part in attention[0].seen:
        _, examples, rows = part._whole
        place = (examples, part.heads, rows)
        assert scores.shape[:3] == part.query.shape[:3]
        assert torch.equal(part.query, query[place])
        assert torch.equal(part.key, key[place[:2]])
        for ask in ("visible_counts", "own_value"):
            everything = getattr(whole, ask)().expand(BATCH, HEADS, QUERY_LEN, -1)
            told = getattr(part, ask)().expand(*scores.shape[:3], -1)
            assert torch.equal(told, everything[place]), ask
        offsets = whole.offsets().expand(BATCH, -1, -1)[examples, rows]
        assert torch.equal(part.offsets().expand_as(offsets), offsets)


def test_rows_are_cut_only_where_a_head_exceeds_the_bound_with_a_warning(monkeypatch):
    attention = stack(Recording)
    monkeypatch.setattr(dispatch, "SCORE_BLOCK", HEAD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attention(module(), *states(), None, 0.3, 0.0, {})
    monkeypatch.setattr(dispatch, "SCORE_BLOCK", HEAD - 1)
    with pytest.warns(UserWarning, match=r"x: 5 x 7 scores of one head exceed .* query rows at a time"):
        attention(module(), *states(), None, 0.3, 0.0, {})
    with pytest.warns(UserWarning, match="all heads, which mix.*dropout then draws other numbers"):
        explicit_stack({"talking_heads": {}})(module(), *states(), None, 0.3, 0.0, {})


def test_training_keeps_no_block_for_the_backward_pass(monkeypatch):
    kept = []
    monkeypatch.setattr(dispatch, "SCORE_BLOCK", HEAD)
    inputs = [s.requires_grad_() for s in states()]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        stack(Recording)(module(), *inputs, None, 0.3, 0.4, {})
    assert max(kept, default=0) < BATCH * HEADS * HEAD
    monkeypatch.undo()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        stack(Recording)(module(), *inputs, None, 0.3, 0.4, {})
    assert max(kept) == BATCH * HEADS * HEAD


@pytest.mark.parametrize("arm", EXPLICIT, ids=arm_id)
def test_a_variant_declares_whether_its_heads_mix_and_never_mixes_rows(arm):
    attention = explicit_stack(arm)
    variant = attention[0]
    running = Call(attention, module(), *states(dtype=torch.float32), None, 0.3, 0.0, {})
    scores = torch.randn(BATCH, HEADS, QUERY_LEN, KEY_LEN, requires_grad=True)
    made = variant.scores(scores, running) if "scores" in variant.hooks else scores
    made = variant.normalize(made, running) if "normalize" in variant.hooks else made.softmax(-1)
    (gradient,) = torch.autograd.grad(made[1, 2, 3].square().sum(), scores)
    reached = gradient.abs().sum(-1) > 0
    assert not reached[0].any()
    assert reached[1, 2, 3]
    assert not reached[1][:, [0, 1, 2, 4]].any()
    assert reached[1, [0, 1, 3, 4, 5]].any() == variant.mixes_heads


def test_a_hook_that_changes_the_shape_of_the_scores_is_refused():
    class Wider(Variant):
        def scores(self, scores, call):
            return scores[:, :1]

    with pytest.raises(ValueError, match=r"x: a hook changed the shape"):
        stack(Wider)(module(), *states(), None, 0.3, 0.0, {})
