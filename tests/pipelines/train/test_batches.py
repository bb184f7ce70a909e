"""The batch plan: the same examples in every step, however they are cut and shared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.train.batches import MICRO_BATCH_OVERHEAD, BatchPlan, cut, fill

LENGTHS = st.lists(st.integers(1, 97), min_size=1, max_size=23)


def plan(counts, lengths, **changes):
    options = {"seed": 3, "batch_size": 5, "max_tokens": 200, "num_ranks": 1} | changes
    return BatchPlan(counts, lengths, **options)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=31), st.integers(1, 9), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_every_epoch_visits_every_example_and_feature_once(counts, batch_size, num_ranks):
    lengths = [1 + i % 7 for i in range(sum(counts))]
    steps = plan(counts, lengths, batch_size=batch_size, num_ranks=num_ranks)
    for epoch in range(2):
        numbers = range(epoch * steps.steps_per_epoch, (epoch + 1) * steps.steps_per_epoch)
        taken = [steps.step(number) for number in numbers]
        assert sorted(e for step in taken for e in step.examples) == list(range(len(counts)))
        features = [f for step in taken for hand in step.micro_batches for batch in hand for f in batch]
        assert sorted(features) == list(range(sum(counts)))


@given(LENGTHS, st.integers(1, 4), st.integers(50, 400))
@settings(max_examples=60, deadline=None)
def test_neither_the_cut_nor_the_ranks_change_a_step(lengths, num_ranks, max_tokens):
    counts = [1] * len(lengths)
    one = plan(counts, lengths)
    other = plan(counts, lengths, num_ranks=num_ranks, max_tokens=max_tokens)
    for number in range(one.steps_per_epoch):
        assert one.step(number).examples == other.step(number).examples
        hands = other.step(number).micro_batches
        assert len({len(hand) for hand in hands}) == 1, "ranks must meet in every forward"
        assert all(all(hand[: len(hand) - 1]) for hand in hands), "an empty micro-batch comes last"
    assert one.digest(7) == other.digest(7)


def test_a_step_can_be_asked_for_directly():
    steps = plan([1] * 17, list(range(1, 18)))
    in_order = [steps.step(number) for number in range(12)]
    assert plan([1] * 17, list(range(1, 18))).step(11) == in_order[11]


def test_epochs_and_seeds_have_orders_of_their_own():
    steps = plan([1] * 40, [5] * 40, batch_size=40)
    assert steps.step(0).examples != steps.step(1).examples
    assert plan([1] * 40, [5] * 40, batch_size=40, seed=4).step(0).examples != steps.step(0).examples


def test_the_order_knows_nothing_of_lengths():
    assert plan([1] * 9, [1] * 9).step(0).examples == plan([1] * 9, range(1, 10)).step(0).examples


def brute_force(lengths, max_tokens):
    """Least cost over every way to cut the sorted lengths."""
    ordered = sorted(lengths, reverse=True)
    best = float("inf")
    for mask in range(1 << (len(ordered) - 1)):
        pieces, begin = [], 0
        for end in range(1, len(ordered) + 1):
            if end == len(ordered) or mask >> (end - 1) & 1:
                pieces.append(ordered[begin:end])
                begin = end
        if all(len(p) * p[0] <= max_tokens or len(p) == 1 for p in pieces):
            best = min(best, sum(len(p) * p[0] + MICRO_BATCH_OVERHEAD for p in pieces))
    return best


@given(st.lists(st.integers(1, 97), min_size=1, max_size=9), st.integers(40, 500))
@settings(max_examples=60, deadline=None)
def test_the_cut_is_the_cheapest_there_is(lengths, max_tokens):
    array = np.array(lengths)
    pieces = cut(range(len(lengths)), array, max_tokens)
    cost = sum(len(piece) * array[list(piece)].max() + MICRO_BATCH_OVERHEAD for piece in pieces)
    assert cost == brute_force(lengths, max_tokens)


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
@given(lengths=LENGTHS)
@settings(max_examples=40, deadline=None)
def test_evaluation_batches_hold_every_feature_once(num_ranks, lengths):
    batches = fill(lengths, 128, 20, multiple_of=num_ranks)
    assert len(batches) % num_ranks == 0
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= 1 or len(batch) * max(lengths[i] for i in batch) <= 128


@given(lengths=LENGTHS)
@settings(max_examples=40, deadline=None)
def test_an_evaluation_batch_has_little_padding_or_less_than_another_batch_costs(lengths):
    for batch in fill(lengths, 1000, 20):
        longest = max(lengths[index] for index in batch)
        padding = sum(longest - lengths[index] for index in batch)
        assert padding <= max(20, 0.1 * len(batch) * longest)


def test_a_batch_that_costs_much_takes_padding_along():
    lengths = [100, 100, 9, 8, 7]
    assert fill(lengths, 1000, 20) == [(0, 1), (2, 3, 4)]
    assert fill(lengths, 1000, 1000) == [(0, 1, 2, 3, 4)]
    assert fill(lengths, 400, 1000) == [(0, 1, 2, 3), (4,)]
