"""A cache with room holds what transformers' own layer holds, and overwrites nobody's keys."""

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.cache_utils import (
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    EncoderDecoderCache,
    StaticCache,
)

from pipelines.tasks.shared import roomy_cache
from pipelines.tasks.shared.roomy_cache import RoomyLayer, make_room

# What happens to a cache between two steps; each gets the layer and its number of rows.
CHANGES = {
    "crop": lambda layer, rows: layer.crop(-1) if layer.get_seq_length() > 1 else None,
    "reorder": lambda layer, rows: layer.reorder_cache(torch.arange(rows).flip(0)),
    "select": lambda layer, rows: layer.batch_select_indices(torch.arange(max(1, rows - 1))),
    "repeat": lambda layer, rows: layer.batch_repeat_interleave(2) if rows < 9 else None,
    "reset": lambda layer, rows: layer.reset(),
    "offload": lambda layer, rows: (layer.offload(), layer.prefetch()),
}


@pytest.fixture(autouse=True, scope="module")
def little_room():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roomy_cache, "ROOM", 3)
        yield


def rows_of(layer):
    return 3 if not layer.is_initialized or layer.keys.dim() == 1 else len(layer.keys)


def step(layers, length, value_size, generator):
    shape = rows_of(layers[0]), 2, length
    keys = torch.randn(*shape, 5, generator=generator)
    values = torch.randn(*shape, value_size, generator=generator)
    return [layer.update(keys.clone(), values.clone()) for layer in layers]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([1, 1, 1, 2, 6, *CHANGES]), min_size=3, max_size=20), st.sampled_from([0, 4]))
def test_it_holds_what_the_library_s_layer_holds_whatever_happens_to_it(actions, value_size):
    layers, generator = (DynamicLayer(), RoomyLayer()), torch.Generator().manual_seed(2)
    given_out = []
    for action in actions:
        if action in CHANGES:
            for layer in layers:
                CHANGES[action](layer, rows_of(layer))
            continue
        wanted, came = step(layers, action, value_size, generator)
        assert torch.equal(came[0], wanted[0])
        assert torch.equal(came[1], wanted[1])
        assert layers[1].get_seq_length() == layers[0].get_seq_length()
        assert layers[1].get_mask_sizes(1) == layers[0].get_mask_sizes(1)
        given_out.append((came[0], wanted[0]))
    assert all(torch.equal(came, wanted) for came, wanted in given_out)  # as they were given out


def test_a_step_copies_no_earlier_keys_while_there_is_room():
    layer, generator = RoomyLayer(), torch.Generator().manual_seed(2)
    places = [step([layer], 1, 4, generator)[0][0].data_ptr() for _ in range(9)]
    assert len(set(places)) == 3


def test_only_what_grows_gets_room():
    config = transformers.MistralConfig(sliding_window=4, num_hidden_layers=2)
    sliding, static = DynamicCache(config=config), StaticCache(config=config, max_cache_len=8)
    pair = EncoderDecoderCache(DynamicCache(config=transformers.T5Config()), DynamicCache())
    for cache in (sliding, static, pair, None):
        make_room(cache)
    assert {type(layer) for layer in sliding.layers} == {DynamicSlidingWindowLayer}
    assert RoomyLayer not in {type(layer) for layer in static.layers}
    assert {type(layer) for layer in pair.self_attention_cache.layers} == {RoomyLayer}
    assert pair.cross_attention_cache.layer_class_to_replicate is DynamicLayer


def test_a_cache_that_makes_its_layers_later_makes_them_with_room():
    cache = DynamicCache()
    cache.update(torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 2, 3), 0)
    make_room(cache)
    cache.update(torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 2, 3), 1)
    assert [type(layer) for layer in cache.layers] == [RoomyLayer, RoomyLayer]
    assert cache.get_seq_length() == 2
