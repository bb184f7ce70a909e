"""The batch plan: which examples make each optimizer step, and how a step is cut into micro-batches.

A pure function of (feature lengths, seed, epoch, batch_size): no state to save, and any step can be
asked for directly. Examples are drawn at random, never by length, so every arm and every number of
processes takes the same steps. Only inside a step are features sorted by length and cut, which
changes the padding and so the speed, never the gradient: the loss is divided by the target tokens of
the whole step.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.seeds import derive

if TYPE_CHECKING:
    from pipelines.config.load import RunConfig
    from pipelines.data.features import Features

# What one more forward and backward costs beyond its tokens, in tokens. Fewer, larger micro-batches pay
# for padding; more, smaller ones pay this. Measured for small encoders on a CPU (docs/benchmarks.md).
MICRO_BATCH_OVERHEAD = 48
UNPADDED_OVERHEAD = 200  # where only attention pays for padding (`speed/unpadding.py`)
# An estimate, never measured: what a GPU computes while Python starts the kernels of one more batch, 20 ms at
# 100,000 tokens a second.
GPU_OVERHEAD = 2048
MOST_PADDING = 0.1  # of a batch of an evaluation, where it has more than the overhead


@dataclass(frozen=True)
class Step:
    """One optimizer step: example indices, and feature indices by rank and micro-batch.

    Every rank has the same number of micro-batches, because sharded models communicate in each forward;
    an empty one stands where there are fewer features than ranks.
    """

    number: int  # from 0, over the whole run
    epoch: int
    examples: tuple[int, ...]
    micro_batches: tuple[tuple[tuple[int, ...], ...], ...]  # [rank][micro-batch] -> feature indices


class BatchPlan:
    """All steps of a run, addressed by number.

    Args:
        feature_counts: features per example, in example order (features are numbered in that order).
        lengths: tokens per feature.
        batch_size: examples per optimizer step over all processes.
        max_tokens: padded tokens a micro-batch may hold; one longer feature stands alone.
        overhead: what one more micro-batch costs besides its tokens, in tokens.
    """

    def __init__(
        self,
        feature_counts: Sequence[int],
        lengths: Sequence[int],
        *,
        seed: int,
        batch_size: int,
        max_tokens: int,
        num_ranks: int = 1,
        overhead: int = MICRO_BATCH_OVERHEAD,
    ) -> None:
        self.num_examples = len(feature_counts)
        self.steps_per_epoch = -(-self.num_examples // batch_size)
        self._first_feature = np.concatenate([[0], np.cumsum(feature_counts)])
        self._lengths = np.asarray(lengths)
        self._seed, self._batch_size = seed, batch_size
        self._max_tokens, self._num_ranks = max_tokens, num_ranks
        self._overhead = overhead
        self._order: tuple[int, np.ndarray] | None = None  # the one epoch in use

    def step(self, number: int) -> Step:
        """The step with this number; costs the same for the first and the millionth."""
        epoch, within = divmod(number, self.steps_per_epoch)
        order = self._epoch_order(epoch)
        examples = order[within * self._batch_size : (within + 1) * self._batch_size]
        features = [
            feature
            for example in examples
            for feature in range(self._first_feature[example], self._first_feature[example + 1])
        ]
        micro_batches = cut(
            features, self._lengths, self._max_tokens, multiple_of=self._num_ranks, overhead=self._overhead
        )
        return Step(number, epoch, tuple(map(int, examples)), share(micro_batches, self._num_ranks))

    def for_ranks(self, num_ranks: int) -> BatchPlan:
        """The same steps, shared among another number of ranks."""
        other = copy.copy(self)
        other._num_ranks = num_ranks
        return other

    def _epoch_order(self, epoch: int) -> np.ndarray:
        if self._order is None or self._order[0] != epoch:
            generator = np.random.default_rng(derive(self._seed, "order", epoch))
            self._order = (epoch, generator.permutation(self.num_examples))
        return self._order[1]

    def digest(self, num_steps: int) -> str:
        """Hash of the examples of the first `num_steps` steps, in order: equal means equal batches."""
        sha = hashlib.sha256()
        for epoch in range(-(-num_steps // self.steps_per_epoch)):
            steps = min(self.steps_per_epoch, num_steps - epoch * self.steps_per_epoch)
            sha.update(self._epoch_order(epoch)[: steps * self._batch_size].astype("<i8").tobytes())
        return sha.hexdigest()


def overhead_of_batch(measured: int, on_cpu: bool) -> int:
    """What one more batch costs besides its tokens, in tokens, given what was `measured` on a CPU."""
    return measured if on_cpu else max(measured, GPU_OVERHEAD)


def plan_of(
    config: RunConfig,
    features: Features,
    num_examples: int,
    *,
    num_ranks: int,
    on_cpu: bool,
    skips_padding: bool,
) -> BatchPlan:
    """The batch plan of a run over the features of its training split.

    Args:
        skips_padding: layers compute no padding (`speed/unpadding.py`), so a larger micro-batch costs less.
    """
    return BatchPlan(
        features.feature_counts(num_examples),
        features.lengths,
        seed=config.seed,
        batch_size=config.batch_size,
        max_tokens=config.max_tokens,
        num_ranks=num_ranks,
        overhead=overhead_of_batch(UNPADDED_OVERHEAD if skips_padding else MICRO_BATCH_OVERHEAD, on_cpu),
    )


def cut(
    features: Sequence[int],
    lengths: np.ndarray,
    max_tokens: int,
    multiple_of: int = 1,
    overhead: int = MICRO_BATCH_OVERHEAD,
) -> list[tuple[int, ...]]:
    """Features sorted by length and cut where padding plus per-batch overhead is least.

    Exact dynamic programming over the sorted features: cost(i..j) = (j - i) * longest + overhead.
    Ties in length keep the order of `features`, so the cut is a function of its arguments alone.
    """
    by_length = sorted(features, key=lambda feature: -int(lengths[feature]))
    longest = [int(lengths[feature]) for feature in by_length]
    best, start = [0.0], [0]  # best[j]: cheapest cut of the first j features
    for end in range(1, len(by_length) + 1):
        choice = (float("inf"), end - 1)
        for begin in range(end - 1, -1, -1):
            padded = (end - begin) * longest[begin]
            if padded > max_tokens and begin < end - 1:
                break
            choice = min(choice, (best[begin] + padded + overhead, begin))
        best.append(choice[0])
        start.append(choice[1])
    pieces, end = [], len(by_length)
    while end:
        pieces.append(tuple(by_length[start[end] : end]))
        end = start[end]
    return _to_multiple(pieces[::-1], multiple_of)


def _to_multiple(pieces: list[tuple[int, ...]], multiple_of: int) -> list[tuple[int, ...]]:
    """Halve the largest pieces until their number fits; empty ones only where features run out."""
    while len(pieces) % multiple_of:
        widest = max(range(len(pieces)), key=lambda index: len(pieces[index]))
        piece = pieces[widest]
        half = (len(piece) + 1) // 2
        pieces[widest : widest + 1] = [piece[:half], piece[half:]]
    return pieces


def share(pieces: Sequence[tuple[int, ...]], num_ranks: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Deal micro-batches to ranks like cards, back and forth, so that the longest do not meet on one rank.

    An empty micro-batch always comes last on its rank.
    """
    hands: list[list[tuple[int, ...]]] = [[] for _ in range(num_ranks)]
    for round_start in range(0, len(pieces), num_ranks):
        dealt = pieces[round_start : round_start + num_ranks]
        forwards = (round_start // num_ranks) % 2 == 0
        for rank, piece in enumerate(dealt if forwards else reversed(dealt)):
            hands[rank].append(piece)
    return tuple(tuple(sorted(hand, key=lambda piece: not piece)) for hand in hands)


def fill(
    lengths: Sequence[int], max_tokens: int, overhead: int, multiple_of: int = 1
) -> list[tuple[int, ...]]:
    """All features by length, longest first, as many to a batch as pays.

    A batch ends at `max_tokens` padded tokens, and where its padding would cost more than another batch does
    (`overhead`, in tokens) and more than a tenth of it.
    """
    batches: list[list[int]] = []
    padding = 0  # of the last batch
    for index in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        if batches:
            longest = lengths[batches[-1][0]]
            padded = (len(batches[-1]) + 1) * longest
            padding += longest - lengths[index]
            if padded <= max_tokens and padding <= max(overhead, MOST_PADDING * padded):
                batches[-1].append(index)
                continue
        batches.append([index])
        padding = 0
    return _to_multiple([tuple(batch) for batch in batches], multiple_of)
