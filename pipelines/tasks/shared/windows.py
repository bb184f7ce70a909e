"""Overlapping windows of a long input, in which every part belongs to exactly one window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Window:
    """Units `begin` to `end` (exclusive) of an input, of which `first` to `last` (exclusive) belong to it.

    Units outside `first:last` are context and belong to another window.
    """

    begin: int
    end: int
    first: int
    last: int


def cut(sizes: Sequence[int], capacity: int, overlap: int) -> list[Window]:
    """Cut an input of units (words) of `sizes` tokens into windows; no unit is split.

    Neighbours share as many whole units as fit into `overlap` tokens, fewer where the next unit would
    not fit otherwise. Each unit belongs to the window in which it has most context, measured as the
    smaller number of tokens to its left and right; at a tie, to the earlier window. A unit in only one
    window belongs to that one, so every unit belongs to exactly one window.

    Args:
        sizes: tokens of each unit, at most `capacity` (cut a larger one before).
        capacity: tokens of a window.
        overlap: tokens that neighbours may share, less than `capacity`.

    Raises:
        ValueError: a unit larger than a window, or an overlap that leaves no room.
    """
    if max(sizes, default=0) > capacity or not 0 <= overlap < capacity:
        raise ValueError(
            f"units of up to {max(sizes, default=0)} tokens, windows of {capacity}, overlap {overlap}"
        )
    spans = _spans(sizes, capacity, overlap)
    before = [0]  # tokens before each unit
    for size in sizes:
        before.append(before[-1] + size)
    borders = [0]
    for (begin, end), (next_begin, next_end) in pairwise(spans):
        border = next_begin
        # Moving right, context to the right shrinks in this window and grows to the left in the next one.
        while border < end and _context(before, border, begin, end) >= _context(
            before, border, next_begin, next_end
        ):
            border += 1
        borders.append(max(border, borders[-1]))
    borders.append(len(sizes))
    return [Window(*span, first, last) for span, first, last in zip(spans, borders, borders[1:])]


def _context(before: Sequence[int], unit: int, begin: int, end: int) -> int:
    """Return the smaller number of tokens to the left and to the right of a unit in its window."""
    return min(before[unit] - before[begin], before[end] - before[unit + 1])


def _spans(sizes: Sequence[int], capacity: int, overlap: int) -> list[tuple[int, int]]:
    """Return the units (begin, end) of each window."""
    spans: list[tuple[int, int]] = []
    begin = end = 0
    while True:
        held = sum(sizes[begin:end])
        while end < len(sizes) and held + sizes[end] <= capacity:
            held += sizes[end]
            end += 1
        spans.append((begin, end))
        if end >= len(sizes):
            return spans
        begin, shared = end, 0
        room = min(overlap, capacity - sizes[end])  # the next unit must fit, else no window would hold it
        while begin and shared + sizes[begin - 1] <= room:
            begin -= 1
            shared += sizes[begin]
