"""Attention with dropout on a CPU, in blocks: the function and the distribution of PyTorch's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

from custom_attention import attach, site_dropout, variant_parameters
from custom_attention.runtime import blockwise, call, dispatch
from tests.custom_attention.models import nudge, padded, tiny

BATCH, HEADS, QUERY_LEN, KEY_LEN, DIM, VALUE_DIM = 3, 5, 7, 11, 4, 6
HEAD = QUERY_LEN * KEY_LEN
BOUNDS = {"whole": 2**20, "examples": HEADS * HEAD, "heads": 2 * HEAD, "rows": 2 * KEY_LEN + 1, "a row": 1}
SCALE, RATE = 0.37, 0.3


def states(query_len=QUERY_LEN):
    generator = torch.Generator().manual_seed(0)
    shapes = (query_len, DIM), (KEY_LEN, DIM), (KEY_LEN, VALUE_DIM)
    made = [torch.randn(BATCH, HEADS, *s, generator=generator, dtype=torch.float64) for s in shapes]
    return [state.requires_grad_() for state in made]


def bias(*lead: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*lead, QUERY_LEN, KEY_LEN, generator=generator, dtype=torch.float64).requires_grad_()


def padding() -> torch.Tensor:
    """Of the right side, and one example that is padded on the left."""
    seen = torch.arange(KEY_LEN)[None] < torch.tensor([[KEY_LEN], [4], [KEY_LEN]])
    seen[2, :3] = False
    return seen[:, None, None]


MASKS = {
    "none": None,
    "padding": padding(),
    "causal": torch.ones(QUERY_LEN, KEY_LEN, dtype=torch.bool).tril()[None, None],
    "causal and padding": padding() & torch.ones(QUERY_LEN, KEY_LEN, dtype=torch.bool).tril(6),
    "of each head": torch.rand(BATCH, HEADS, QUERY_LEN, KEY_LEN, generator=torch.Generator().manual_seed(2))
    > 0.4,
    "blind rows": torch.arange(QUERY_LEN)[None, None, :, None].expand(BATCH, 1, -1, KEY_LEN) > 2,
}


def textbook(query, key, value, visible, added, rate):
    """Compute the same in plain steps, with dropout drawn for all scores at once."""
    scores = query @ key.mT * SCALE + (0 if added is None else added)
    if visible is not None:
        scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    if visible is not None and added is None:
        weights = weights.masked_fill(~visible.any(-1, keepdim=True), 0.0)
    return blockwise.drop_elements(weights, rate) @ value


def with_gradients(function, *inputs, **options):
    torch.manual_seed(3)
    output = function(*inputs, **options)
    weight = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
    wanted = [tensor for tensor in inputs if torch.is_tensor(tensor) and tensor.requires_grad]
    return [output, *torch.autograd.grad((output * weight).sum(), wanted)]


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("lead", [None, (1, HEADS), (BATCH, HEADS), (1, 1)], ids=str)
def test_blocks_equal_the_plain_formula_under_the_same_draws_with_every_gradient(
    bound, mask, lead, monkeypatch
):
    monkeypatch.setattr(blockwise, "BLOCK_SCORES", BOUNDS[bound])
    inputs = [*states(), MASKS[mask], None if lead is None else bias(*lead)]
    expected = with_gradients(textbook, *inputs, RATE)

    def ours(query, key, value, visible, added, rate):
        return blockwise.attend_in_blocks(query, key, value, visible, added, SCALE, rate)

    for one, two in zip(with_gradients(ours, *inputs, RATE), expected, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("mask", ["none", "causal and padding", "of each head"])
def test_unread_queries_change_no_other_query_and_no_draw(bound, mask, monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK_SCORES", BOUNDS[bound])
    read = [QUERY_LEN, 0, 4]
    has_reader = (torch.arange(QUERY_LEN)[None] < torch.tensor(read)[:, None])[:, None, :, None]
    inputs = [*states(), bias(1, HEADS)]

    def ours(query, key, value, added, known):
        visible = MASKS[mask]
        said = blockwise.attend_in_blocks(query, key, value, visible, added, SCALE, RATE, read=known)
        return said.where(has_reader, 0.0)

    for one, two in zip(
        with_gradients(ours, *inputs, read), with_gradients(ours, *inputs, None), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


def test_blocks_of_unread_queries_are_not_computed(monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK_SCORES", 1)  # a block is a row of scores
    formed, softmax = [], torch.softmax
    monkeypatch.setattr(
        torch, "softmax", lambda scores, *a, **k: formed.append(1) or softmax(scores, *a, **k)
    )
    blockwise.attend_in_blocks(*states(), None, None, SCALE, RATE, read=[QUERY_LEN, 0, 4])
    assert len(formed) == HEADS * (QUERY_LEN + 4)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("rate", [0.0, RATE])
def test_a_bias_by_offset_equals_the_whole_bias_with_its_gradient(bound, mask, rate, monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK_SCORES", BOUNDS[bound])
    square = [state[:, :, :QUERY_LEN].detach().requires_grad_() for state in states()]
    visible = MASKS[mask] if MASKS[mask] is None else MASKS[mask][..., :QUERY_LEN]
    values = torch.randn(HEADS, 2 * QUERY_LEN - 1, dtype=torch.float64, requires_grad=True)

    def written_out(*inputs):
        offsets = torch.arange(QUERY_LEN)[None] - torch.arange(QUERY_LEN)[:, None]
        added = inputs[3][:, offsets + QUERY_LEN - 1][None] + inputs[4]
        return textbook(*inputs[:3], visible, added, rate)

    def ours(query, key, value, values, bias):
        return blockwise.attend_in_blocks(query, key, value, visible, bias, SCALE, rate, values)

    own = bias(1, HEADS)[..., :QUERY_LEN].detach().requires_grad_()
    expected = with_gradients(written_out, *square, values, own)
    for one, two in zip(with_gradients(ours, *square, values, own), expected, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("rate", [0.0, RATE])
def test_weights_that_are_computed_again_give_the_same_bits(bound, mask, rate, monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK_SCORES", BOUNDS[bound])
    square = [state[:, :, :QUERY_LEN].detach().requires_grad_() for state in states()]
    visible = MASKS[mask] if MASKS[mask] is None else MASKS[mask][..., :QUERY_LEN]
    values = torch.randn(HEADS, 2 * QUERY_LEN - 1, dtype=torch.float64, requires_grad=True)
    added = bias(BATCH, HEADS)[..., :QUERY_LEN].detach().requires_grad_()
    for terms in ([], [added], [added, values]):

        def ours(query, key, value, added=None, values=None):
            whole = visible, added, SCALE, rate, values, [QUERY_LEN, 0, 4]
            said = blockwise.attend_in_blocks(query, key, value, *whole)
            torch.rand(7)  # draws between the passes
            return said

        kept = with_gradients(ours, *square, *terms)
        monkeypatch.setattr(blockwise, "MOST_KEPT", HEAD)
        for one, two in zip(with_gradients(ours, *square, *terms), kept, strict=True):
            assert torch.equal(one, two)
        monkeypatch.undo()
        monkeypatch.setattr(blockwise, "BLOCK_SCORES", BOUNDS[bound])


def test_of_a_long_input_no_weights_are_kept(monkeypatch):
    def kept(most):
        monkeypatch.setattr(blockwise, "MOST_KEPT", most)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
            blockwise.attend_in_blocks(*states(), None, None, SCALE, RATE)
        return sum(saved)

    scores = BATCH * HEADS * HEAD
    assert kept(scores) == kept(scores - 1) + scores


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("read", [None, [QUERY_LEN, 0, 4]])
def test_a_causal_call_needs_no_mask(bound, read, monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK_SCORES", BOUNDS[bound])

    def ours(query, key, value, visible, causal):
        return blockwise.attend_in_blocks(
            query, key, value, visible, None, SCALE, RATE, read=read, causal=causal
        )

    without, by_mask = (
        with_gradients(ours, *states(), *how) for how in ((None, True), (MASKS["causal"], False))
    )
    for one, two in zip(without, by_mask, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("mask", MASKS)
def test_without_dropout_blocks_equal_pytorchs_kernel(mask):
    inputs, visible = states(), MASKS[mask]
    ours = with_gradients(
        lambda q, k, v: blockwise.attend_in_blocks(q, k, v, visible, None, SCALE, 0.0), *inputs
    )
    theirs = with_gradients(lambda q, k, v: sdpa(q, k, v, attn_mask=visible, scale=SCALE), *inputs)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mask", MASKS)
def test_states_of_16_bits_are_computed_in_32_and_rounded_once_also_under_autocast(mask):
    low = [state.detach().bfloat16().requires_grad_() for state in states()]
    wide = [state.detach().float().requires_grad_() for state in low]

    def ours(*inputs):
        return blockwise.attend_in_blocks(*inputs, MASKS[mask], None, SCALE, RATE).bfloat16().double()

    expected = with_gradients(ours, *wide)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = with_gradients(ours, *low)
    for one, two in zip(found, expected, strict=True):
        assert torch.equal(one, two.to(one.dtype))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_weights_are_dropped_at_the_rate_independently_and_the_mean_is_kept(rate):
    torch.manual_seed(4)
    dropped = blockwise.drop_elements(
        torch.ones(20, 10, 100, 101), rate
    )  # 101: not a multiple of a word's numbers
    gone, count = (dropped == 0).double(), dropped.numel()
    five_sigma = 5 * math.sqrt(rate * (1 - rate) / count)
    assert abs(gone.mean() - rate) < five_sigma + 1 / blockwise.DROP_LEVELS
    assert dropped.unique().numel() == 2
    assert abs(dropped.double().mean() - 1) < five_sigma / (1 - rate)
    for distance in (1, 2, 3, 4):  # also within the 64 bits that one draw fills
        together = (gone[..., distance:] * gone[..., :-distance]).mean()
        assert abs(together - rate**2) < 5 * rate / math.sqrt(count)


def test_everything_is_dropped_at_1_and_nothing_at_0():
    weights = torch.rand(2, 3, 4, 5)
    assert torch.equal(blockwise.drop_elements(weights, 0.0), weights)
    assert not blockwise.drop_elements(weights, 1.0).any()


def set_dropout(model: torch.nn.Module, rate: float) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rate
        for name in ("dropout", "dropout_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, rate)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_only_paired_training_of_stock_attends_in_blocks(family, monkeypatch):
    monkeypatch.setattr(call, "FEWEST_SCORES", 0)
    calls = []
    monkeypatch.setattr(
        call, "attend_in_blocks", lambda *a: calls.append(a) or blockwise.attend_in_blocks(*a)
    )
    model, inputs = attach(tiny(family), []).train(), padded(family).inputs
    model(**inputs)
    with site_dropout(1):
        model.eval()(**inputs)
        assert not calls
        model.train()(**inputs).logits.square().mean().backward()
    assert len(calls) == sum(isinstance(module, dispatch.Stack) for module in model.modules())


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize("variant", ["alibi", "relative_bias"])
def test_a_bias_by_offset_is_learned_the_same_in_blocks_and_by_the_kernel(
    variant, family, dropout, monkeypatch
):
    found, calls, inputs = [], [], padded(family).inputs
    monkeypatch.setattr(
        call, "attend_in_blocks", lambda *a: calls.append(a) or blockwise.attend_in_blocks(*a)
    )
    # Padding on the left sees no key, so its output is left out.
    counts = 1 if family == "t5" else inputs["attention_mask"][..., None]
    for fewest in (0, math.inf):
        monkeypatch.setattr(call, "FEWEST_SCORES", fewest)
        model = attach(tiny(family), variant, where={"kind": "self"}).double().train()
        nudge(variant_parameters(model).values())
        set_dropout(model, dropout * 1e-9)  # a rate that rounds to none
        with site_dropout(1):
            output = model(**inputs).logits * counts
            output.square().mean().backward()
        found.append([output, *(p.grad for p in model.parameters())])
    assert sum(call[7] is not None for call in calls) == len(list(variant_parameters(model)))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)  # T5 norms in float32


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_training_in_blocks_equals_the_model_itself(family, monkeypatch):
    """At a rate that rounds to none, training gives the outputs and gradients of the model itself."""
    found = []
    for fewest in (0, math.inf):
        monkeypatch.setattr(call, "FEWEST_SCORES", fewest)
        model = attach(tiny(family), []).train()
        set_dropout(model, 1e-9)
        with site_dropout(1):
            output = model(**padded(family).inputs).logits
            output.square().mean().backward()
        found.append([output, *(p.grad for p in model.parameters())])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
