"""Attention that reads no hidden key gives what transformers' sdpa gives of the whole batch."""

import gc
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from custom_attention import attach, attached
from custom_attention.kernels import one_query, visible
from custom_attention.kernels.visible import without_hidden_keys
from tests.custom_attention.models import FAMILIES, logits, nudge, padded, tiny

LENGTHS = (7, 2, 7, 11, 1, 5)
KEYS = 11
SPECS = {
    "stock": [],
    "mask": ["sliding_window"],
    "bias": ["relative_bias"],
    "scores": [{"softcap": {"cap": 2.0}}],
    "hooks": ["gate", "temperature", "value_residual"],
    "own kernel": ["linear_attention"],
}


def stack(is_source=False, read=None):
    """As much of a `Stack` as a kernel asks for."""
    return SimpleNamespace(site=SimpleNamespace(is_cross=is_source), having=lambda *_: [], read=read)


class Site(torch.nn.Module):
    def __init__(self, groups):
        super().__init__()
        self.num_key_value_groups, self.is_causal = groups, False


@pytest.fixture(autouse=True)
def calls_cost_nothing(monkeypatch):
    monkeypatch.setattr(visible, "CALL", 1)


@pytest.fixture
def read(monkeypatch):
    """The number of keys that each kernel call read, times its rows."""
    counts = []

    def counted(kernel, key_at):
        def call(*args, **kwargs):
            counts.append(len(args[key_at]) * args[key_at].shape[2])
            return kernel(*args, **kwargs)

        return call

    monkeypatch.setattr(visible, "SDPA", counted(visible.SDPA, 2))
    monkeypatch.setattr(one_query, "_attend", counted(one_query._attend, 1))
    return counts


def seen(side, queries, heads=1):
    mask = torch.zeros(len(LENGTHS), heads, queries, KEYS, dtype=torch.bool)
    for row, length in enumerate(LENGTHS):
        begin = {"right": 0, "left": KEYS - length, "both": (KEYS - length) // 2}[side]
        mask[row, :, :, begin : begin + length] = True
        mask[row, :, :, begin + length // 2] &= length < 5  # a hole in the middle
    return mask


def states(queries, key_heads, dtype, seed=5):
    generator = torch.Generator().manual_seed(seed)
    draw = [
        torch.randn(len(LENGTHS), heads, length, size, generator=generator).to(dtype)
        for heads, length, size in ((6, queries, 9), (key_heads, KEYS, 9), (key_heads, KEYS, 13))
    ]
    return draw


def both(mask, queries=1, key_heads=6, dtype=torch.float32, is_source=False, **terms):
    call = Site(6 // key_heads), *states(queries, key_heads, dtype), mask
    wanted, _ = sdpa_attention_forward(*call, **terms)
    came, _ = visible.attend(stack(is_source), *call, **terms)
    return came, wanted


def assert_close(came, wanted):
    assert came.shape == wanted.shape
    assert came.dtype == wanted.dtype
    if wanted.numel():
        assert (came - wanted).abs().max() <= 20 * torch.finfo(wanted.dtype).eps * wanted.abs().max()


def bias_of(shape, dtype):
    return torch.randn(shape, generator=torch.Generator().manual_seed(8)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("key_heads", [6, 2, 1])
@pytest.mark.parametrize("queries", [1, 4])
@pytest.mark.parametrize("side", ["right", "left", "both"])
def test_padding_on_any_side_is_not_read(side, queries, key_heads, dtype, read):
    assert_close(*both(seen(side, queries), queries, key_heads, dtype))
    assert sum(read) == sum(LENGTHS) < len(LENGTHS) * KEYS


@pytest.mark.parametrize("queries", [1, 4])
@pytest.mark.parametrize("shape", [(1, 6), (6, 6), (1, 1)], ids=str)
@pytest.mark.parametrize("scaling", [None, 0.7])
def test_a_bias_and_a_scale_count_as_in_sdpa(shape, queries, scaling, read):
    bias = bias_of((*shape, queries, KEYS), torch.float32)
    assert_close(*both(seen("left", queries), queries, 3, position_bias=bias, scaling=scaling))
    assert sum(read) == sum(LENGTHS)


@pytest.mark.parametrize("queries", [1, 4])
@pytest.mark.parametrize("heads", [1, 6])
def test_a_mask_of_numbers_or_of_each_head_counts_as_in_sdpa(heads, queries, read):
    mask = torch.where(
        seen("right", queries, heads), bias_of((6, heads, queries, KEYS), torch.float32), -1e38
    )
    for lowest in (torch.finfo(torch.float32).min, -torch.inf):
        assert_close(*both(mask.masked_fill(mask == -1e38, lowest), queries, 2))
    assert_close(*both(mask > -1e38, queries, 2))
    assert max(read) < len(LENGTHS) * KEYS


@pytest.mark.parametrize("bias", [None, (1, 6, 1, KEYS)], ids=["plain", "bias"])
@pytest.mark.parametrize("hidden", [False, torch.finfo(torch.float32).min], ids=["booleans", "numbers"])
def test_a_row_that_sees_no_key_gets_what_sdpa_gives_it(hidden, bias):
    mask = seen("right", 1)
    mask[3] = False
    if hidden:
        mask = torch.zeros(mask.shape).masked_fill(~mask, hidden)
    bias = None if bias is None else bias_of(bias, torch.float32)
    came, wanted = both(mask, position_bias=bias)
    assert torch.equal(came, wanted)
    assert came.isfinite().all()


def test_terms_that_a_model_has_of_its_own_stay_with_its_kernel(read):
    sinks = torch.zeros(6)
    both(seen("right", 1), s_aux=sinks)
    assert read == [len(LENGTHS) * KEYS]
    with pytest.raises(ValueError, match="softcap"):
        visible.attend(stack(), Site(1), *states(1, 6, torch.float32), seen("right", 1), softcap=3.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias", [None, (1, 6, 4, KEYS)], ids=["plain", "bias"])
@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "together"])
def test_queries_that_nobody_reads_are_0_and_others_as_in_sdpa(is_alone, bias, dtype, monkeypatch):
    monkeypatch.setattr(visible, "CALL", 1 if is_alone else 2**20)
    ends = [4, 1, 0, 3, 2, 2]
    call = Site(2), *states(4, 3, dtype), seen("right", 4)
    terms = {"position_bias": None if bias is None else bias_of(bias, dtype)}
    wanted, _ = sdpa_attention_forward(*call, **terms)
    came, _ = visible.attend(stack(read=ends), *call, **terms)
    for row, end in enumerate(ends):
        assert_close(came[row, :end], wanted[row, :end])
        assert not came[row, max(1, end) if is_alone else max(ends) :].any()
    other, _ = visible.attend(stack(read=[4] * 6), *call, **terms)  # the same mask, read further
    assert_close(other, wanted)


def test_keys_of_a_source_are_put_together_once(monkeypatch):
    query, key, value = states(1, 6, torch.float32)
    cut, is_cut = one_query._cut, []
    monkeypatch.setattr(one_query, "_cut", lambda *args: is_cut.append(side) or cut(*args))
    for side in ("right", "right", "right", "left", "left", "left"):  # a mask of its own in each step
        call = Site(1), query, key, value, seen(side, 1)
        assert_close(visible.attend(stack(True), *call)[0], sdpa_attention_forward(*call)[0])
    assert is_cut == ["right", "right", "left", "left"]  # as they come at first, together from then on
    others = states(1, 6, torch.float32, seed=6)
    call = Site(1), *others, seen("left", 1)
    assert_close(visible.attend(stack(True), *call)[0], sdpa_attention_forward(*call)[0])


@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("shape", [(6, 1, KEYS), (1, KEYS), (KEYS,)], ids=str)
def test_a_bias_may_leave_out_its_first_dimensions(shape, queries):
    call = Site(1), *states(queries, 6, torch.float32), seen("right", queries)
    terms = {"position_bias": torch.randn(shape, generator=torch.Generator().manual_seed(3))}
    whole = call[1].new_zeros(len(LENGTHS), 6, queries, KEYS) + terms["position_bias"]
    wanted = sdpa_attention_forward(*call[:4], whole.masked_fill(~call[4], -torch.inf))[0]
    assert_close(visible.attend(stack(), *call, **terms)[0], wanted)


def test_keys_that_are_read_where_they_lie_are_not_kept():
    """Those of one text, or of texts of one length, are one piece of memory already."""
    gc.collect()
    before = len(one_query._known)
    for sources in ([11], [5, 5, 5], [4, 11, 11]):
        query, key, value = (torch.randn(len(sources), 6, length, 9) for length in (1, max(sources), 11))
        value = value[:, :, : max(sources)]
        mask = torch.arange(max(sources)) < torch.tensor(sources)[:, None, None, None]
        for _ in range(3):
            call = Site(1), query, key, value, mask.clone()
            assert_close(visible.attend(stack(True), *call)[0], sdpa_attention_forward(*call)[0])
        del key, value, call
        gc.collect()
        assert len(one_query._known) <= before


def test_nothing_is_kept_of_masks_and_keys_that_are_gone():
    gc.collect()
    before = len(visible._known), len(one_query._known)
    for mask in (
        seen("left", 1),
        torch.zeros(seen("left", 1).shape).masked_fill(~seen("left", 1), -torch.inf),
    ):
        both(mask, is_source=True)
        both(mask, position_bias=bias_of((1, 6, 1, KEYS), torch.float32))
    del mask
    gc.collect()
    assert len(visible._known) <= before[0]
    assert len(one_query._known) <= before[1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20)), min_size=1, max_size=25), st.integers(0, 50)
)
def test_groups_hold_what_their_rows_see_and_no_more_than_a_call_is_worth(starts, most):
    ranges = [(start, start + length) for start, length in starts]
    groups = visible._grouped(ranges, most)
    rows = [row for group, _ in groups for row in range(group.start, group.stop)]
    assert rows == list(range(len(ranges)))
    for group, keys in groups:
        own = ranges[group]
        assert (keys.start, keys.stop) == (min(first for first, _ in own), max(last for _, last in own))
        assert len(own) * (keys.stop - keys.start) - sum(last - first for first, last in own) <= most


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("family", FAMILIES)
def test_models_and_variants_give_what_they_give_of_all_keys(family, name, read):
    batch = padded(family)
    model = attach(tiny(family), SPECS[name], where={"kind": "self"})
    nudge(parameter for _, stack in attached(model) for parameter in stack.parameters())
    wanted, own = logits(model, batch.inputs), [stack.kernel for _, stack in attached(model)]
    with without_hidden_keys(model):
        came = logits(model, batch.inputs)
    bound = 300 * torch.finfo(torch.float32).eps * wanted.abs().max()
    for row in range(len(batch.lengths)):
        assert (batch.real(came, row) - batch.real(wanted, row)).abs().max() <= bound
    assert [stack.kernel for _, stack in attached(model)] == own
    is_cut = family not in ("gpt2", "llama", "deberta")  # padding in front that sees no key; another kernel
    assert name != "stock" or not is_cut or len(read) > len(own)


def test_an_error_inside_gives_the_kernels_back():
    model = attach(tiny("t5"), [])
    with pytest.raises(RuntimeError, match="inside"), without_hidden_keys(model):
        raise RuntimeError("inside")
    assert all(stack.kernel is sdpa_attention_forward for _, stack in attached(model))
