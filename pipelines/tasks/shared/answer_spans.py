"""The best answer spans by the scores of their two ends, and the threshold of "no answer"."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional


def best_spans(
    start: torch.Tensor,
    end: torch.Tensor,
    allowed: torch.Tensor,
    is_seen: torch.Tensor,
    max_len: int,
    num: int,
) -> tuple[list[list[tuple[float, int, int]]], list[float]]:
    """Return the `num` spans of at most `max_len` tokens with the highest start + end, for each row.

    The search is exact; the official script combines only the best starts with the best ends.

    Args:
        start, end: scores of each token as first and as last, float (batch, len).
        allowed: tokens at which a span may begin or end, bool (batch, len).
        is_seen: tokens that are not white space alone, bool (batch, len); a span has one of them.

    Returns:
        For each row its spans (score, first token, last token), best first; and for each row the log of the
        sum of exp(score) over all of its spans (-inf if it has none).
    """
    width = min(max_len, start.shape[1])
    start, end = (scores.masked_fill(~allowed, -math.inf) for scores in (start, end))
    ends = functional.pad(end, (0, width - 1), value=-math.inf).unfold(1, width, 1)
    seen = is_seen.cumsum(1)
    seen_at_end = functional.pad(seen, (0, width - 1)).unfold(1, width, 1)
    is_blank = seen_at_end <= (seen - is_seen.long()).unsqueeze(2)
    # (batch, len * width): from token i to token i + d
    scores = (start.unsqueeze(2) + ends).masked_fill(is_blank, -math.inf).flatten(1)
    best = scores.topk(min(num, scores.shape[1]))
    found = [
        [(s, i // width, i // width + i % width) for s, i in zip(*row) if s > -math.inf]
        for row in zip(best.values.tolist(), best.indices.tolist())
    ]
    return found, scores.logsumexp(dim=1).tolist()


def best_threshold(margins: Sequence[float], gains: Sequence[float]) -> float:
    """Return the t for which answering the rows with margin <= t gains most; at a tie, the nearest to 0.

    All t between two neighbouring margins are equivalent. The candidates are the middle between neighbours,
    the outermost margins moved by 1, and 0.

    Args:
        margins: for each row, by how much "no answer" scores above the best span; inf: there is no span.
        gains: for each row, by how much the metric of the best span exceeds that of "no answer".
    """
    values, gained = np.asarray(margins, dtype=np.float64), np.asarray(gains, dtype=np.float64)
    order = np.argsort(values[np.isfinite(values)], kind="stable")
    values, gained = values[np.isfinite(values)][order], gained[np.isfinite(values)][order]
    totals = np.concatenate([[0.0], np.cumsum(gained)])  # gain of answering the first n rows
    distinct = np.unique(values)
    candidates = [0.0, *(distinct[:-1] + distinct[1:]) / 2, *(distinct[:1] - 1), *(distinct[-1:] + 1)]
    answered = np.searchsorted(values, candidates, side="right")
    # Rounded, because sums in another order differ in their last bits.
    ranked = zip((-totals[answered]).round(9).tolist(), np.abs(candidates).tolist(), candidates)
    return float(min(ranked)[2])
