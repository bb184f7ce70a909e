"""Best spans and the threshold of no answer, against trying everything."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.tasks.shared.answer_spans import best_spans, best_threshold


@pytest.mark.parametrize("seed", range(12))
def test_the_best_spans_are_those_of_trying_every_pair(seed):
    generator = torch.Generator().manual_seed(seed)
    length, max_len, num = 13, 1 + seed % 5, 7
    start, end = torch.randn(2, 3, length, generator=generator)
    allowed = torch.rand(3, length, generator=generator) < 0.7
    is_seen = torch.rand(3, length, generator=generator) < 0.6
    found, totals = best_spans(start, end, allowed, is_seen, max_len, num)
    for row in range(3):
        every = [
            ((start[row, i] + end[row, j]).item(), i, j)
            for i in range(length)
            for j in range(i, min(length, i + max_len))
            if allowed[row, i] and allowed[row, j] and is_seen[row, i : j + 1].any()
        ]
        assert found[row] == sorted(every, reverse=True)[:num]
        exact = math.log(sum(math.exp(score) for score, _, _ in every))
        assert totals[row] == pytest.approx(exact, rel=30 * torch.finfo(torch.float32).eps, abs=1e-6)


def test_where_no_span_is_allowed_there_is_none():
    nowhere = torch.zeros(1, 4, dtype=bool)
    found, totals = best_spans(torch.zeros(1, 4), torch.zeros(1, 4), nowhere, ~nowhere, 9, 3)
    assert found == [[]]
    assert totals == [-math.inf]


def test_padding_changes_no_span():
    start, end = torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(0))
    allowed = torch.tensor([[False, True, True, True, True, False]])
    padded = [torch.nn.functional.pad(t, (0, 5)) for t in (start, end)]
    wide_allowed = torch.nn.functional.pad(allowed, (0, 5))
    wide = best_spans(*padded, wide_allowed, wide_allowed, 4, 5)
    narrow = best_spans(start, end, allowed, allowed, 4, 5)
    assert wide[0] == narrow[0]
    assert wide[1] == pytest.approx(narrow[1], rel=1e-6)


MARGIN = st.one_of(st.integers(-3, 3).map(float), st.just(math.inf))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(MARGIN, st.sampled_from([-1.0, -0.25, 0.0, 0.5, 1.0])), max_size=9))
def test_no_threshold_gains_more_than_the_one_that_is_chosen(rows):
    margins, gains = [margin for margin, _ in rows], [gain for _, gain in rows]

    def gained(threshold: float) -> float:
        return sum(gain for margin, gain in rows if not margin > threshold)

    chosen = best_threshold(margins, gains)
    assert math.isfinite(chosen)
    finite = [margin for margin in margins if margin < math.inf]
    tried = [margin + shift for margin in finite for shift in (-0.5, 0.5)] + [0.0]
    assert gained(chosen) == pytest.approx(max(map(gained, tried)))
    if gained(0.0) == max(map(gained, tried)):
        assert chosen == 0.0  # what need not move stays


def test_a_threshold_by_hand():
    # answering pays below 2, costs above: anything from 1.5 up to 2.5 does, the middle is taken
    assert best_threshold([0.5, 1.5, 2.5, 4.0], [1, 1, -1, -1]) == 2.0
    assert best_threshold([-3.0, -1.0], [-1, -1]) == -4.0  # never answer
    assert best_threshold([], []) == 0.0
