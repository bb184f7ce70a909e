"""The batch plan: which examples make each optimizer step, and how a step is cut into micro-batches.

It is a pure function of (feature lengths, seed, epoch, batch_size): there is no state to save, and any step
can be computed directly. Examples are drawn at random, never by length, so every arm and every number of
processes takes the same steps. Features are sorted by length and cut only inside a step. That changes the
padding and so the speed, never the gradient: the loss is divided by the target tokens of the whole step.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.seeds import derive

if TYPE_CHECKING:
    from pipelines.config.load import RunConfig
    from pipelines.data.features import Features

Numbers = Sequence[int] | NDArray[np.integer]
MicroBatch = tuple[int, ...]  # feature indices

# The cost of one more forward and backward besides its tokens, in tokens. Fewer, larger micro-batches cost
# padding; more, smaller ones cost this. Measured for small encoders on a CPU (docs/benchmarks.md).
MICRO_BATCH_OVERHEAD = 48
UNPADDED_OVERHEAD = 200  # where only attention computes padding (`speed/unpadding.py`)
# An estimate, never measured: what a GPU computes while Python starts the kernels of one more batch, 20 ms at
# 100,000 tokens a second.
GPU_OVERHEAD = 2048
MOST_PADDING = 0.1  # share of an evaluation batch that may be padding where that is more than the overhead


@dataclass(frozen=True)
class Step:
    """One optimizer step: example indices, and feature indices by rank and micro-batch.

    Every rank has the same number of micro-batches, because sharded models communicate in each forward.
    Some are empty where there are fewer features than ranks.
    """

    number: int  # from 0, over the whole run
    epoch: int
    examples: tuple[int, ...]
    micro_batches: tuple[tuple[MicroBatch, ...], ...]  # [rank][micro-batch]


class BatchPlan:
    """All steps of a run, addressed by number.

    Args:
        feature_counts: features per example, in example order (features are numbered in that order).
        lengths: tokens per feature.
        batch_size: examples per optimizer step over all processes.
        max_tokens: padded tokens a micro-batch may hold; a longer feature is a micro-batch of its own.
        num_ranks: ranks that share every step.
        overhead: cost of one more micro-batch besides its tokens, in tokens.
    """

    def __init__(
        self,
        feature_counts: Numbers,
        lengths: Numbers,
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
        self._order: tuple[int, NDArray[np.integer]] | None = (
            None  # (epoch, example indices), the last that was used
        )

    def step(self, number: int) -> Step:
        """Return the step with this number, from 0; any step costs the same."""
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
        return Step(number, epoch, tuple(map(int, examples)), assign_to_ranks(micro_batches, self._num_ranks))

    def for_ranks(self, num_ranks: int) -> BatchPlan:
        """Return the plan of the same steps for another number of ranks."""
        other = copy.copy(self)
        other._num_ranks = num_ranks
        return other

    def _epoch_order(self, epoch: int) -> NDArray[np.integer]:
        """Return the example indices of an epoch in their random order."""
        if self._order is None or self._order[0] != epoch:
            generator = np.random.default_rng(derive(self._seed, "order", epoch))
            self._order = (epoch, generator.permutation(self.num_examples))
        return self._order[1]

    def digest(self, num_steps: int) -> str:
        """Return a hash of the examples of the first `num_steps` steps, in order, to compare two plans."""
        sha = hashlib.sha256()
        for epoch in range(-(-num_steps // self.steps_per_epoch)):
            steps = min(self.steps_per_epoch, num_steps - epoch * self.steps_per_epoch)
            sha.update(self._epoch_order(epoch)[: steps * self._batch_size].astype("<i8").tobytes())
        return sha.hexdigest()


def overhead_of_batch(measured: int, on_cpu: bool) -> int:
    """Return the cost of one more batch besides its tokens, in tokens, from the one `measured` on a CPU."""
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
    """Build the batch plan of a run over the features of its training split.

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
    lengths: Numbers,
    max_tokens: int,
    multiple_of: int = 1,
    overhead: int = MICRO_BATCH_OVERHEAD,
) -> list[MicroBatch]:
    """Sort features by length and cut them into micro-batches with the least padding plus overhead.

    Exact dynamic programming over the sorted features: cost(i..j) = (j - i) * longest + overhead.
    Ties in length keep the order of `features`, so the cut depends on its arguments alone.

    Args:
        lengths: tokens of every feature of the split, by feature index.
        multiple_of: number of ranks; the number of micro-batches is a multiple of it.
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


def _to_multiple(pieces: list[MicroBatch], multiple_of: int) -> list[MicroBatch]:
    """Halve the largest pieces until their number is a multiple; some stay empty if features are too few."""
    while len(pieces) % multiple_of:
        widest = max(range(len(pieces)), key=lambda index: len(pieces[index]))
        piece = pieces[widest]
        half = (len(piece) + 1) // 2
        pieces[widest : widest + 1] = [piece[:half], piece[half:]]
    return pieces


def assign_to_ranks(pieces: Sequence[MicroBatch], num_ranks: int) -> tuple[tuple[MicroBatch, ...], ...]:
    """Assign micro-batches to ranks in turns, back and forth, so that no rank gets all the longest.

    An empty micro-batch always comes last on its rank.
    """
    by_rank: list[list[MicroBatch]] = [[] for _ in range(num_ranks)]
    for start in range(0, len(pieces), num_ranks):
        turn = pieces[start : start + num_ranks]
        forwards = (start // num_ranks) % 2 == 0
        for rank, piece in enumerate(turn if forwards else reversed(turn)):
            by_rank[rank].append(piece)
    return tuple(tuple(sorted(of_rank, key=lambda piece: not piece)) for of_rank in by_rank)


def fill(lengths: Numbers, max_tokens: int, overhead: int, multiple_of: int = 1) -> list[MicroBatch]:
    """Put all features into evaluation batches, the longest first.

    A batch ends at `max_tokens` padded tokens, or where its padding would exceed both the cost of another
    batch (`overhead`, in tokens) and a tenth of the batch.
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
