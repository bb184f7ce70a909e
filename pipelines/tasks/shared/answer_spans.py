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

    Between two margins any t does the same; the middle is tried, 1 beyond the outermost ones, and 0.

    Args:
        margins: of each row, by how much no answer scores above the best span; inf has nothing to answer.
        gains: of each row, what answering scores above giving no answer.
    """
    values, gained = np.asarray(margins, dtype=np.float64), np.asarray(gains, dtype=np.float64)
    order = np.argsort(values[np.isfinite(values)], kind="stable")
    values, gained = values[np.isfinite(values)][order], gained[np.isfinite(values)][order]
    totals = np.concatenate([[0.0], np.cumsum(gained)])  # of answering the first n rows
    distinct = np.unique(values)
    tried = [0.0, *(distinct[:-1] + distinct[1:]) / 2, *(distinct[:1] - 1), *(distinct[-1:] + 1)]
    answered = np.searchsorted(values, tried, side="right")
    # rounded, because equal sums in another order differ in their last bits
    ranked = zip((-totals[answered]).round(9).tolist(), np.abs(tried).tolist(), tried)
    return float(min(ranked)[2])
