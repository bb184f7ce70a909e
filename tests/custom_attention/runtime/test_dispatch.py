"""The dispatcher against independent oracles: mask forms, the explicit path, counts, own values, layout."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from custom_attention.runtime.call import Call
from custom_attention.runtime.dispatch import NAMES, Stack
from custom_attention.variant import Site, Variant
from tests.custom_attention.conftest import EPS

BATCH, HEADS, KEY_HEADS, QUERY_LEN, KEY_LEN, DIM = 2, 6, 3, 5, 7, 4


class Plain(Variant):
    """Overrides a score hook and changes nothing: stock attention on the explicit path."""

    def scores(self, scores, call):
        return scores


class Biased(Variant):
    """Adds a fixed bias."""

    def position_bias(self, bias, call):
        extra = torch.linspace(-1, 1, call.key.shape[2])[None, None, None]
        return extra if bias is None else bias + extra


def site(**facts) -> Site:
    defaults = {"num_heads": HEADS, "num_key_heads": KEY_HEADS, "head_dim": DIM, "scale": 0.5}
    return Site("x", 0, 1, **{**defaults, "is_cross": False, "is_causal": True, **facts})


def stack(*variants: type[Variant], **facts) -> Stack:
    here = site(**facts)
    return Stack([cls(here) for cls in variants], sdpa_attention_forward, "sdpa", here)


def module(is_causal: bool = True):
    return SimpleNamespace(is_causal=is_causal, num_key_value_groups=HEADS // KEY_HEADS, training=False)


def states(query_len: int = QUERY_LEN, key_len: int = KEY_LEN, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = (HEADS, query_len), (KEY_HEADS, key_len), (KEY_HEADS, key_len)
    return [
        torch.randn(BATCH, h, n, DIM, generator=generator, dtype=torch.float64).to(dtype) for h, n in shapes
    ]


def textbook(query, key, value, visible, scale, bias=0.0):
    """Attention written as sums over one query at a time."""
    output = torch.zeros(BATCH, query.shape[2], HEADS, DIM, dtype=torch.float64)
    for b in range(BATCH):
        for h in range(HEADS):
            k, v = key[b, h // (HEADS // KEY_HEADS)].double(), value[b, h // (HEADS // KEY_HEADS)].double()
            for i in range(query.shape[2]):
                seen = visible[b, i].nonzero()[:, 0]
                score = (k[seen] @ query[b, h, i].double()) * scale
                score = score + (bias[b, h, i][seen] if torch.is_tensor(bias) else bias)
                output[b, i, h] = score.softmax(0) @ v[seen]
    return output


def some_mask() -> torch.Tensor:
    """(batch, query_len, key_len), every row with a different number of visible keys."""
    mask = torch.arange(KEY_LEN)[None, None] <= torch.arange(QUERY_LEN)[None, :, None] + 2
    mask = mask.repeat(BATCH, 1, 1)
    mask[1, :, 1] = False
    return mask


def as_form(mask: torch.Tensor, form: str) -> torch.Tensor:
    if form == "bool":
        return mask[:, None]
    low = -math.inf if form == "infinite" else torch.finfo(torch.float64).min
    return torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, low)[:, None]


@pytest.mark.parametrize("form", ["bool", "float", "infinite"])
@pytest.mark.parametrize("variants", [(), (Plain,)], ids=["kernel", "explicit"])
def test_every_form_of_mask_means_the_same(form, variants):
    query, key, value = states()
    mask = some_mask()
    output, _ = stack(*variants)(module(), query, key, value, as_form(mask, form), 0.3, 0.0, {})
    torch.testing.assert_close(output, textbook(query, key, value, mask, 0.3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("variants", [(), (Plain,)], ids=["kernel", "explicit"])
@pytest.mark.parametrize(("is_causal", "query_len"), [(True, QUERY_LEN), (False, QUERY_LEN), (True, 1)])
def test_no_mask_means_causal_only_for_several_queries_of_a_causal_module(variants, is_causal, query_len):
    query, key, value = states(query_len, query_len if query_len > 1 else KEY_LEN)
    visible = torch.ones(BATCH, query_len, key.shape[2], dtype=torch.bool)
    if is_causal and query_len > 1:
        visible = visible.tril()
    output, _ = stack(*variants)(module(is_causal), query, key, value, None, 0.3, 0.0, {})
    torch.testing.assert_close(output, textbook(query, key, value, visible, 0.3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("variants", [(), (Plain,)], ids=["kernel", "explicit"])
def test_the_empty_tail_of_a_static_cache_is_not_attended(variants):
    query, key, value = states()
    visible = torch.ones(BATCH, QUERY_LEN, KEY_LEN, dtype=torch.bool).tril()
    output, _ = stack(*variants)(module(), query, key, value, None, 0.3, 0.0, {})
    torch.testing.assert_close(output, textbook(query, key, value, visible, 0.3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("variants", [(Biased,), (Biased, Plain)], ids=["kernel", "explicit"])
@pytest.mark.parametrize("form", ["bool", "float", None])
@pytest.mark.parametrize("own", [False, True], ids=["no bias before", "bias before"])
def test_a_position_bias_is_added_to_the_scores(variants, form, own):
    query, key, value = states()
    mask = some_mask() if form else torch.ones(BATCH, QUERY_LEN, KEY_LEN, dtype=torch.bool)
    given = torch.randn(1, HEADS, QUERY_LEN, KEY_LEN, dtype=torch.float64) if own else None
    extra = torch.linspace(-1, 1, KEY_LEN, dtype=torch.float64).expand(BATCH, HEADS, QUERY_LEN, KEY_LEN)
    kwargs = {"position_bias": given} if own else {}
    form_of_mask = as_form(mask, form) if form else None
    output, _ = stack(*variants)(module(False), query, key, value, form_of_mask, 0.3, 0.0, kwargs)
    whole = extra + given if own else extra
    torch.testing.assert_close(output, textbook(query, key, value, mask, 0.3, whole), rtol=0, atol=2e-7)


class ByOffset(Variant):
    """Adds a bias of each head that depends on the offset."""

    def offset_bias(self, offsets, call):
        return torch.sin(offsets * torch.arange(1, HEADS + 1)[:, None]).double()


@pytest.mark.parametrize("variants", [(ByOffset, Biased), (ByOffset, Plain)], ids=["kernel", "explicit"])
def test_a_bias_by_offset_counts_from_each_querys_own_position(variants):
    query, key, value = states()
    visible = torch.ones(BATCH, QUERY_LEN, KEY_LEN, dtype=torch.bool)
    own = torch.arange(QUERY_LEN) + KEY_LEN - QUERY_LEN  # as with a cache: the queries are the last positions
    offsets = (torch.arange(KEY_LEN) - own[:, None]).double()
    bias = torch.sin(offsets * torch.arange(1, HEADS + 1)[:, None, None]).expand(BATCH, -1, -1, -1)
    if Biased in variants:
        bias = bias + torch.linspace(-1, 1, KEY_LEN, dtype=torch.float64)
    output, _ = stack(*variants)(module(False), query, key, value, None, 0.3, 0.0, {})
    torch.testing.assert_close(output, textbook(query, key, value, visible, 0.3, bias), rtol=0, atol=2e-7)


def test_a_bias_by_offset_of_another_shape_is_refused_by_name():
    class Wrong(Variant):
        def offset_bias(self, offsets, call):
            return torch.zeros(len(offsets), HEADS)

    with pytest.raises(ValueError, match=r"x: offset_bias gave .*, not \(heads, n\)"):
        stack(Wrong)(module(False), *states(), None, 0.3, 0.0, {})


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("form", ["bool", "float", "infinite"])
def test_a_row_without_visible_keys_equals_sdpa(form, with_bias):
    query, key, value = states(dtype=torch.float32)
    mask = some_mask()
    mask[0, 2] = False
    mask = as_form(mask, form).to(torch.float32) if form == "infinite" else as_form(mask, form)
    if form == "float":
        mask = torch.zeros_like(mask, dtype=torch.float32).masked_fill(
            mask < 0, torch.finfo(torch.float32).min
        )
    kwargs = {"position_bias": torch.zeros(1, HEADS, QUERY_LEN, KEY_LEN)} if with_bias else {}
    fused, _ = stack()(module(), query, key, value, mask, 0.3, 0.0, kwargs)
    explicit, _ = stack(Plain)(module(), query, key, value, mask, 0.3, 0.0, kwargs)
    if form == "infinite" and with_bias:  # the kernel itself gives no number there
        assert explicit.isfinite().all()
        return
    torch.testing.assert_close(explicit, fused, rtol=0, atol=50 * EPS)


def test_unscaled_scores_are_formed_in_float32():
    query, key, value = (30 * s for s in states(dtype=torch.float16))
    output, _ = stack(Plain)(module(False), query * 10, key * 10, value, None, 1.0, 0.0, {})
    assert output.isfinite().all()
    assert output.dtype == torch.float16


def test_autocast_does_not_reach_the_scores():
    states_of_model = states(dtype=torch.float32)
    plain, _ = stack(Plain)(module(), *states_of_model, None, 1.0, 0.0, {})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, _ = stack(Plain)(module(), *states_of_model, None, 1.0, 0.0, {})
    assert torch.equal(plain, cast)


def test_a_scale_of_none_is_one_over_the_root_of_head_dim():
    query, key, value = states()
    visible = torch.ones(BATCH, QUERY_LEN, KEY_LEN, dtype=torch.bool)
    for variants in ((), (Plain,)):
        output, _ = stack(*variants)(module(False), query, key, value, None, None, 0.0, {})
        torch.testing.assert_close(output, textbook(query, key, value, visible, 0.5), rtol=0, atol=1e-12)


def test_models_with_terms_of_their_own_inside_the_softmax_are_refused_on_the_explicit_path():
    query, key, value = states()
    for name in ("softcap", "s_aux", "sinks"):
        with pytest.raises(ValueError, match=name):
            stack(Plain)(module(), query, key, value, None, 0.3, 0.0, {name: torch.ones(HEADS)})


def call(mask, query_len=QUERY_LEN, key_len=KEY_LEN, is_causal=True, **facts) -> Call:
    here = stack(is_causal=is_causal, **facts)
    query, key, value = states(query_len, key_len)
    return Call(here, module(is_causal), query, key, value, mask, 0.3, 0.0, {})


@pytest.mark.parametrize("form", ["bool", "float", "infinite"])
def test_visible_keys_are_counted_from_any_mask(form):
    counts = call(as_form(some_mask(), form)).visible_counts()
    assert torch.equal(counts[:, 0, :, 0], some_mask().sum(-1).float())


def test_visible_keys_are_counted_without_a_mask():
    assert call(None).visible_counts().flatten().tolist() == [1, 2, 3, 4, 5]
    assert call(None, is_causal=False).visible_counts().flatten().tolist() == [KEY_LEN]
    assert call(None, query_len=1).visible_counts().flatten().tolist() == [KEY_LEN]
    nothing = torch.zeros(BATCH, 1, QUERY_LEN, KEY_LEN, dtype=torch.bool)
    assert call(nothing).visible_counts().min() == 1


def test_the_own_value_is_found_with_every_kind_of_cache():
    def positions(running: Call) -> list[int]:
        marks = torch.arange(running.value.shape[2], dtype=torch.float64)[None, None, :, None]
        running.value = marks.expand_as(running.value).clone()
        own = running.own_value()
        assert own.shape == (BATCH, HEADS, running.query.shape[2], DIM)
        return own[0, 0, :, 0].int().tolist()

    assert positions(call(None, 7, 7)) == list(range(7))
    assert positions(call(None, 1, 7)) == [6]  # growing cache, no padding
    assert positions(call(None, 5, 7)) == [0, 1, 2, 3, 4]  # prefill of a static cache
    static = (torch.arange(7) <= 3)[None, None, None].expand(BATCH, 1, 1, 7)
    assert positions(call(static, 1, 7)) == [3]  # a step in a static cache with empty slots
    padded = (torch.arange(7) >= 2)[None, None, None].expand(BATCH, 1, 1, 7)
    assert positions(call(padded, 1, 7)) == [6]  # a step behind left padding
    assert positions(call(None, 5, 7, is_causal=False)) == [2, 3, 4, 5, 6]  # a learned prefix


def test_the_own_value_of_a_grouped_head_is_that_of_its_key_head():
    running = call(None, 7, 7)
    own = running.own_value()
    for head in range(HEADS):
        assert torch.equal(own[:, head], running.value[:, head // 2])


def test_a_cross_attention_query_has_no_own_value():
    with pytest.raises(ValueError, match="cross"):
        call(None, is_cross=True).own_value()


def test_the_names_of_the_kernels_have_no_meaning_for_transformers():
    for name in NAMES.values():
        assert not any(word in name for word in ("flash", "flex", "sdpa", "/", "|", "paged"))


def test_hooks_run_in_the_documented_order():
    order = []

    class Everything(Variant):
        def query_gain(self):
            order.append("query_gain")
            return torch.ones(HEADS, 1)

        def output_gain(self):
            order.append("output_gain")
            return torch.ones(HEADS, 1)

        def normalize(self, scores, call):
            order.append("normalize")
            return scores.softmax(-1)

    def hook(name):
        def run(self, given, call):
            order.append(name)
            return given

        return run

    for name in ("scale", "query", "key", "position_bias", "scores", "output"):
        setattr(Everything, name, hook(name))
    Everything.offset_bias = lambda self, offsets, call: hook("offset_bias")(
        self, torch.zeros(HEADS, len(offsets)), call
    )
    output, _ = stack(Everything)(module(), *states(), None, 0.3, 0.0, {})
    assert order == [
        "query_gain",
        "query",
        "key",
        "scale",
        "position_bias",
        "offset_bias",
        "scores",
        "normalize",
        "output_gain",
        "output",
    ]
    torch.testing.assert_close(
        output, stack()(module(), *states(), None, 0.3, 0.0, {})[0], rtol=0, atol=1e-12
    )


def test_attend_runs_the_kernel_on_other_states():
    query, key, value = states()

    class Twice(Variant):
        def output(self, output, call):
            return output + call.attend(call.query, call.key, 2 * call.value)

    once, _ = stack()(module(), query, key, value, None, 0.3, 0.0, {})
    thrice, _ = stack(Twice)(module(), query, key, value, None, 0.3, 0.0, {})
    torch.testing.assert_close(thrice, 3 * once, rtol=0, atol=1e-12)


def test_the_explicit_path_draws_the_dropout_of_the_cpu_kernel():
    query, key, value = states(dtype=torch.float32)
    mask = some_mask()[:, None]
    outputs = []
    for variants in ((), (Plain,)):
        torch.manual_seed(5)
        outputs.append(stack(*variants)(module(), query, key, value, mask, 0.3, 0.4, {})[0])
    torch.testing.assert_close(*outputs, rtol=0, atol=50 * EPS)


def test_a_stack_holds_parameters_only():
    assert all(isinstance(part, (nn.ModuleList, Variant)) for part in stack(Plain).modules())
