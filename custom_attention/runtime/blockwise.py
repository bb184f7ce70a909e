"""Attention in blocks of some examples, heads and query rows: how scores are cut, and dropout on a CPU.

On a CPU, PyTorch's attention with dropout forms all scores and draws a slow random number for each: 43 % of a
step of a small BERT at length 384. `attend_in_blocks` computes the same function in blocks that fit the
cache, with 16 random bits for each score (gains: docs/benchmarks.md).
Needs only torch: an exported model carries a copy of this file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

BLOCK_SCORES = 2**17  # scores at a time: half a MiB in float32, which stays in the cache of a core
FEWEST_SCORES = 2**16  # with as many scores in a call, blocks are faster than PyTorch's kernel
MOST_KEPT = 2**26  # scores of a call whose weights are kept, 256 MiB; of more they are computed again
DROP_LEVELS = 2**16  # values of the random number that decides whether a weight is dropped
DRAWS_PER_WORD = 4  # random numbers of 16 bits in 64 bits

BlockPlace = tuple[slice, slice, slice]  # examples, heads, query rows
Cuts = tuple[list[slice], list[slice], list[slice]]  # slices of the examples, of the heads, of the query rows
_EVERYTHING = slice(None)


# ---- places
def score_cuts(shape: torch.Size, key_len: int, heads_together: bool, most: int) -> Cuts:
    """Return slices of (batch, heads, query_len) whose blocks hold at most `most` scores, or one row."""
    batch, heads, query_len = shape
    per_head = query_len * key_len
    examples = _block_slices(batch, most // max(1, heads * per_head))
    if heads * per_head <= most:
        return examples, [_EVERYTHING], [_EVERYTHING]
    if heads_together:
        return examples, [_EVERYTHING], _block_slices(query_len, most // (heads * key_len))
    return examples, _block_slices(heads, most // per_head), _block_slices(query_len, most // key_len)


def _block_slices(length: int, most: int) -> list[slice]:
    """Return consecutive slices of `most`, but at least 1; a single one where `length` is within `most`."""
    if length <= most:
        return [_EVERYTHING]
    return [slice(start, start + max(1, most)) for start in range(0, length, max(1, most))]


def block_places(cuts: Cuts) -> list[BlockPlace]:
    """Return the place of every block, in the order of the examples, then heads, then rows."""
    return list(itertools.product(*cuts))


def cut_to_block(tensor: Tensor, place: tuple[slice, ...]) -> Tensor:
    """Return a part of a tensor along its first axes; axes that broadcast stay whole."""
    return tensor[tuple(part if size > 1 else _EVERYTHING for part, size in zip(place, tensor.shape))]


# ---- a bias that follows from the offset, key position minus query position
def bias_by_offset(values: Tensor, own: Tensor, key_len: int) -> Tensor:
    """Return the whole bias, (1 | batch, heads, query_len, key_len).

    Args:
        values: one for each of the offsets 1 - key_len .. key_len - 1, (heads, 2 * key_len - 1).
        own: positions of the queries among the keys, (1 | batch, query_len).
    """
    rows = key_len - 1 - own  # the index of each query's first value; its row is the next `key_len` values
    picked = values.unfold(-1, key_len, 1).index_select(1, rows.flatten())
    return picked.unflatten(1, rows.shape).transpose(0, 1)


def _offsets_of(place: BlockPlace, shape: torch.Size, num_values: int) -> tuple[slice, slice]:
    """Return the part of the values by offset that a block of scores (examples, heads, rows, keys) reads."""
    _, _, rows, keys = shape
    begin = num_values // 2 - ((place[2].start or 0) + rows - 1)
    return place[1], slice(begin, begin + rows + keys - 1)


def _bias_of_block(values: Tensor, examples: int, keys: int) -> Tensor:
    """Return the bias of a block in new memory, (examples, heads, rows, keys)."""
    rows = torch.arange(values.shape[1] - keys, -1, -1)  # `flip` would return rows that are not contiguous
    bias = values.unfold(-1, keys, 1).index_select(1, rows)
    return bias[None] if examples == 1 else bias.repeat(examples, 1, 1, 1)


def _sum_by_offset(of_scores: Tensor) -> Tensor:
    """Return the sum of each diagonal of a block, (heads, rows + keys - 1): the gradient of `_bias_of_block`.

    Each row gets as many zeros in front as there are rows. Read again with rows that are one longer, each row
    is shifted by one more than the row above it, so that entries of the same offset are in one column.
    """
    examples, _, rows, keys = of_scores.shape
    summed = of_scores[0] if examples == 1 else of_scores.sum(0)
    longer = rows + keys + 1
    shifted = pad(summed, (rows, 0, 0, 1)).flatten(1)[:, : rows * longer].unflatten(1, (rows, longer))
    return shifted.sum(1)[:, 1:-1]


# ---- dropout
def drop_elements(states: Tensor, rate: float) -> Tensor:
    """Apply dropout on a CPU; weights (batch, heads, query_len, key_len) as `attend_in_blocks` drops them.

    The rate is rounded to a multiple of 1 / 65,536, and the scale of what is kept follows from the rounded
    rate, so the mean is exact.
    """
    lowest, gain = _threshold_and_gain(rate)
    return states * (_drop_draws(states.shape) > lowest).to(states.dtype).mul_(gain)


def _threshold_and_gain(rate: float) -> tuple[float, float]:
    """Return the number above which a draw keeps its weight, and the factor on kept weights."""
    num_dropped = round(rate * DROP_LEVELS)
    num_kept = DROP_LEVELS - num_dropped
    return num_dropped - DROP_LEVELS / 2 - 0.5, DROP_LEVELS / num_kept if num_kept else 0.0


def _drop_draws(shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
    """Draw int16 numbers from `generator`, or torch's default one, in whole rows of keys.

    Blocks in order draw the same numbers as one draw for all of them.
    """
    *rows, key_len = shape
    words = torch.empty(*rows, -(-key_len // DRAWS_PER_WORD), dtype=torch.int64)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[..., :key_len]


# ---- attention with dropout
def attend_in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    bias: Tensor | None,
    scale: float,
    rate: float,
    by_offset: Tensor | None = None,
    read: Sequence[int] | None = None,
    causal: bool = False,
) -> Tensor:
    """Return dropout(softmax(query @ key * scale + bias)) @ value over the visible keys, on a CPU.

    Args:
        query, key, value: (batch, heads, len, head_dim), key heads repeated.
        visible: booleans that broadcast to (batch, heads, query_len, key_len), True where a query sees a key;
            None: everywhere.
        bias: added to the scores, broadcasts to their shape; or None. It may require a gradient.
        scale: the factor on query @ key.
        rate: share of the weights that is dropped.
        by_offset: another bias, the values of `bias_by_offset`, or None. Only one block of it is formed at a
            time. Query i must be at the position of key i.
        read: for each example, the number of its first queries whose output is used; None: all. The output
            of other queries may be 0.
        causal: query i sees the keys up to i; `visible` is None.

    Returns:
        (batch, heads, query_len, value_dim). A query that sees no key gets 0, or the mean of the values under
        a bias, as from PyTorch's kernel.
    """
    dtype = query.dtype
    wide = torch.promote_types(dtype, torch.float32)
    query, key, value = (states.to(wide).contiguous() for states in (query, key, value))
    bias, by_offset = (None if term is None else term.to(wide) for term in (bias, by_offset))
    return _AttendInBlocks.apply(query, key, value, bias, by_offset, visible, scale, rate, read, causal).to(
        dtype
    )


class _AttendInBlocks(torch.autograd.Function):
    """`attend_in_blocks` with its gradient.

    The weights of each block are kept for the backward pass, with a minus sign where one was dropped. Those
    of a long input would not fit into memory: they are computed again, with the same draws.
    """

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        by_offset: Tensor | None,
        visible: Tensor | None,
        scale: float,
        rate: float,
        read: Sequence[int] | None,
        causal: bool,
    ) -> Tensor:
        keeps = query.shape[:3].numel() * key.shape[2] <= MOST_KEPT
        ctx.draws_from = None if keeps else torch.default_generator.get_state()
        ctx.scale, ctx.rate, ctx.read, ctx.causal = scale, rate, read, causal
        ctx.term_shapes = [None if t is None or not t.requires_grad else t.shape for t in (bias, by_offset)]
        output = query.new_zeros(*query.shape[:3], value.shape[3])
        raised = value * _threshold_and_gain(rate)[1]
        ctx.blocks, kept_weights = [], []
        terms = _Terms(query * scale, key, bias, by_offset, visible, rate, read, causal)
        for place, end, blind, weights in terms.blocks(None):
            dropped = _by_head(weights.clamp(min=0.0))
            output[place] = dropped.bmm(_by_head(raised[place[:2]][:, :, :end])).view(*weights.shape[:3], -1)
            if keeps:
                ctx.blocks.append((place, end, blind))
                kept_weights.append(weights)
        ctx.save_for_backward(query, key, value, *(kept_weights if keeps else (bias, by_offset, visible)))
        return output

    @staticmethod
    @once_differentiable
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # untyped decorators
        query, key, value, *others = ctx.saved_tensors
        scaled, scaled_key = query * ctx.scale, key * ctx.scale
        blocks: Iterable[Block]
        if ctx.draws_from is None:
            blocks = ((*block, weights) for block, weights in zip(ctx.blocks, others))
        else:
            generator = torch.Generator()
            generator.set_state(ctx.draws_from)
            bias, by_offset, visible = others
            terms = _Terms(scaled, key, bias, by_offset, visible, ctx.rate, ctx.read, ctx.causal)
            blocks = terms.blocks(generator)
        of_query, of_key, of_value = (torch.zeros_like(states) for states in (query, key, value))
        of_bias, of_offsets = (None if shape is None else query.new_zeros(shape) for shape in ctx.term_shapes)
        gradient = (gradient * _threshold_and_gain(ctx.rate)[1]).contiguous()
        for place, end, blind, weights in blocks:
            shape, keys = weights.shape, (*place[:2], slice(end))
            of_output = _by_head(gradient[place])
            of_value[keys] += _by_head(weights.clamp(min=0.0)).mT.bmm(of_output).view(*shape[:2], end, -1)
            of_weights = of_output.bmm(_by_head(value[keys]).mT).view(shape)
            of_weights = torch.ops.aten.threshold_backward(of_weights, weights, 0.0)  # none where dropped
            of_scores = torch._softmax_backward_data(of_weights, weights.abs(), -1, weights.dtype)
            if blind is not None:
                of_scores.masked_fill_(blind, 0.0)
            if of_bias is not None:
                here = cut_to_block(of_bias, place)[..., :end]
                here += of_scores.sum_to_size(here.shape)
            if of_offsets is not None:
                of_offsets[_offsets_of(place, shape, of_offsets.shape[1])] += _sum_by_offset(of_scores)
            of_scores = _by_head(of_scores)
            of_query[place] = of_scores.bmm(_by_head(scaled_key[keys])).view(*shape[:3], -1)
            of_key[keys] += of_scores.mT.bmm(_by_head(scaled[place])).view(*shape[:2], end, -1)
        return of_query, of_key, of_value, of_bias, of_offsets, None, None, None, None, None


# A place, the number of its first keys, its rows that see no key, or None, and its weights.
Block = tuple[BlockPlace, int, Tensor | None, Tensor]


@dataclass(frozen=True)
class _Terms:
    """What the weights of a call follow from; `attend_in_blocks` describes it. Queries are scaled."""

    scaled: Tensor
    key: Tensor
    bias: Tensor | None
    by_offset: Tensor | None
    visible: Tensor | None
    rate: float
    read: Sequence[int] | None
    causal: bool

    def blocks(self, generator: torch.Generator | None) -> Iterator[Block]:
        """Yield the blocks in order; a weight that was dropped has a minus sign.

        Args:
            generator: for dropout; None: torch's default one.
        """
        lowest, _ = _threshold_and_gain(self.rate)
        rows, key_len = self.scaled.shape[:3], self.key.shape[2]
        visible_keys = _VisibleKeys(self.visible, self.causal, rows[2], key_len)
        for whole in block_places(score_cuts(rows, key_len, False, BLOCK_SCORES)):
            # Drawn for unread rows too, so that `read` does not change what other rows drop.
            drawn = (*self.scaled[whole].shape[:3], key_len)
            draws = _drop_draws(drawn, generator) if self.rate else None
            place = _read_part(whole, self.read)
            if place is None:
                continue
            end, hidden, blind = visible_keys.of(place)
            scores = self._scores(place, end, hidden)
            weights = torch.softmax(scores, -1, out=scores)
            if blind is not None and self.bias is None and self.by_offset is None:
                weights.masked_fill_(blind, 0.0)
            if draws is not None:
                weights.copysign_(torch.sub(draws[:, :, : weights.shape[2], :end], lowest))
            yield place, end, blind, weights

    def _scores(self, place: BlockPlace, end: int, hidden: Tensor | None) -> Tensor:
        """Return the scores of a block with its first `end` keys."""
        rows, keys = _by_head(self.scaled[place]), _by_head(self.key[place[:2]][:, :, :end]).mT
        shape = torch.Size((*self.scaled[place].shape[:3], end))
        if self.by_offset is None:
            scores = rows.bmm(keys).view(shape)
        else:
            values = self.by_offset[_offsets_of(place, shape, self.by_offset.shape[1])]
            scores = _bias_of_block(values, shape[0], end)
            _by_head(scores).baddbmm_(rows, keys)
        if self.bias is not None:
            scores += cut_to_block(self.bias, place)[..., :end]
        if hidden is not None:
            scores.masked_fill_(hidden, torch.finfo(scores.dtype).min)
        return scores


def _read_part(place: BlockPlace, read: Sequence[int] | None) -> BlockPlace | None:
    """Return the block without last rows that no example reads; None where no row is left."""
    if read is None:
        return place
    examples, heads, rows = place
    begin, end = rows.start or 0, max(read[examples])
    if begin >= end:
        return None
    return examples, heads, slice(begin, end if rows.stop is None else min(rows.stop, end))


def _by_head(states: Tensor) -> Tensor:
    """Return (examples, heads, rows, columns) as (examples * heads, rows, columns)."""
    return states.flatten(0, 1)


class _VisibleKeys:
    """Which keys the rows of a block see, so that last keys which no row sees are left out."""

    def __init__(self, visible: Tensor | None, causal: bool, query_len: int, key_len: int) -> None:
        self._visible, self._causal = visible, causal
        self._query_len, self._key_len = query_len, key_len
        self._known: dict[tuple[int | None, ...], tuple[int, Tensor | None, Tensor | None]] = {}

    def of(self, place: BlockPlace) -> tuple[int, Tensor | None, Tensor | None]:
        """Return the number of first keys to attend to; which of them are hidden, or None; rows that see no
        key, or None."""
        if self._causal:
            return self._before(place[2])
        if self._visible is None:
            return self._key_len, None, None
        heads = place[1].start if self._visible.shape[1] > 1 else None
        known = (place[0].start, heads, place[2].start)  # heads mostly share a mask
        if known not in self._known:
            self._known[known] = self._describe(cut_to_block(self._visible, place))
        return self._known[known]

    def _before(self, rows: slice) -> tuple[int, Tensor | None, Tensor | None]:
        """Return what `of` does where a query sees the keys up to its own place."""
        begin = rows.start or 0
        stop = self._query_len if rows.stop is None else min(rows.stop, self._query_len)
        end = min(stop, self._key_len)
        hidden = torch.arange(end) > torch.arange(begin, stop)[:, None]
        return end, hidden if hidden.any() else None, None

    def _describe(self, visible: Tensor) -> tuple[int, Tensor | None, Tensor | None]:
        sees = visible.any(-1, keepdim=True)
        if not sees.all():
            return self._key_len, ~visible, ~sees
        end = int(visible.flatten(0, -2).any(0).nonzero()[-1]) + 1
        hidden = ~visible[..., :end]
        return end, hidden if hidden.any() else None, None
