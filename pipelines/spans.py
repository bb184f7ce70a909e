"""The best spans of a text by the scores of their two ends, and when to give none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional


def best_spans(
    start: torch.Tensor, end: torch.Tensor, allowed: torch.Tensor, max_len: int, num: int
) -> tuple[list[list[tuple[float, int, int]]], list[float]]:
    """The `num` spans of at most `max_len` tokens with the highest start + end, exactly, for each row.

    (The official script pairs the best starts with the best ends only, and may miss some.)

    Args:
        start, end: scores of each token as first and as last, float (batch, len).
        allowed: tokens at which a span may begin or end, bool (batch, len).

    Returns:
        For each row (score, first token, last token), best first, and log of the sum of exp(score) over
        all of its spans (-inf where it has none).
    """
    width = min(max_len, start.shape[1])
    start, end = (scores.masked_fill(~allowed, -math.inf) for scores in (start, end))
    ends = functional.pad(end, (0, width - 1), value=-math.inf).unfold(1, width, 1)
    scores = (start.unsqueeze(2) + ends).flatten(1)  # (batch, len * width): from token i to token i + d
    best = scores.topk(min(num, scores.shape[1]))
    found = [
        [(s, i // width, i // width + i % width) for s, i in zip(*row) if s > -math.inf]
        for row in zip(best.values.tolist(), best.indices.tolist())
    ]
    return found, scores.logsumexp(dim=1).tolist()


def best_threshold(margins: Sequence[float], gains: Sequence[float]) -> float:
    """The t for which answering exactly the rows with margin <= t gains most; of equals, nearest to 0.

    Between two margins any t does the same; the middle is taken, or 0 where it lies between them.
    """
    order = np.argsort(margins, kind="stable")
    sorted_margins = np.asarray(margins, dtype=np.float64)[order]
    totals = np.concatenate([[0.0], np.cumsum(np.asarray(gains, dtype=np.float64)[order])])
    finite = sorted_margins[np.isfinite(sorted_margins)]
    if not len(finite):
        return 0.0
    below = np.concatenate([[finite[0] - 2], sorted_margins])  # margins on both sides of each cut
    above = np.concatenate([sorted_margins, [finite[-1] + 2]])
    chosen = [
        (-round(total, 9), abs(t), t)
        for low, high, total in zip(below, above, totals)
        if low < high and math.isfinite(low) and math.isfinite(high)
        for t in [0.0 if low <= 0 < high else (low + high) / 2]
    ]
    return float(min(chosen)[2])
