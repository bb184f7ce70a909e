"""Windows over units: nothing lost, nothing twice, the best context for each."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.tasks.shared.windows import Window, cut


@st.composite
def inputs(draw):
    capacity = draw(st.integers(1, 23))
    overlap = draw(st.integers(0, capacity - 1))
    sizes = draw(st.lists(st.integers(1, capacity), max_size=60))
    return sizes, capacity, overlap


@given(inputs())
def test_every_unit_is_owned_by_one_window_that_holds_it(drawn):
    sizes, capacity, overlap = drawn
    windows = cut(sizes, capacity, overlap)
    owned = [unit for window in windows for unit in range(window.first, window.last)]
    assert owned == list(range(len(sizes)))
    for window in windows:
        assert window.begin <= window.first <= window.last <= window.end
        assert sum(sizes[window.begin : window.end]) <= capacity
    assert windows[0].begin == 0
    assert windows[-1].end == len(sizes)


@given(inputs())
def test_each_unit_has_as_much_context_as_any_window_gives_it(drawn):
    sizes, capacity, overlap = drawn
    windows = cut(sizes, capacity, overlap)

    def context(window: Window, unit: int) -> int:
        return min(sum(sizes[window.begin : unit]), sum(sizes[unit + 1 : window.end]))

    for window in windows:
        for unit in range(window.first, window.last):
            holders = [other for other in windows if other.begin <= unit < other.end]
            assert context(window, unit) == max(context(other, unit) for other in holders)


@given(inputs())
def test_neighbours_share_at_most_the_overlap_and_no_window_lies_in_another(drawn):
    sizes, capacity, overlap = drawn
    windows = cut(sizes, capacity, overlap)
    for left, right in pairwise(windows):
        assert right.begin <= left.end < right.end
        assert left.begin < right.begin
        assert sum(sizes[right.begin : left.end]) <= overlap


@pytest.mark.parametrize(("sizes", "capacity", "overlap"), [([1, 6], 5, 2), ([1], 5, 5), ([1], 5, -1)])
def test_what_cannot_be_cut_is_refused(sizes, capacity, overlap):
    with pytest.raises(ValueError, match="windows of 5"):
        cut(sizes, capacity, overlap)


def test_hand_computed_windows():
    # capacity 5, overlap 2, units of one token: 0-4, 3-7, 6-9; units 3 and 4 have 1 and 0 tokens to the right
    # in the first window and 0 and 1 to the left in the second
    assert cut([1] * 10, 5, 2) == [Window(0, 5, 0, 4), Window(3, 8, 4, 7), Window(6, 10, 7, 10)]
    # unit 3 has no token to its right in the first window, none to its left in the second: the earlier one
    assert cut([1] * 6, 4, 1) == [Window(0, 4, 0, 4), Window(3, 6, 4, 6)]
    assert cut([], 5, 2) == [Window(0, 0, 0, 0)]
    assert cut([2, 2], 4, 1) == [Window(0, 2, 0, 2)]
    # the next unit fills a window alone, so there is no room for context
    assert cut([1, 1, 4], 4, 2) == [Window(0, 2, 0, 2), Window(2, 3, 2, 3)]
