"""Attention some examples, heads and query rows at a time: how scores are cut, and dropout on a CPU.

On a CPU, PyTorch's attention with dropout writes out all scores and draws a slow random number for each: 43 %
of a step of a small BERT at length 384. `attend_in_blocks` is the same function, a block that fits the cache
at a time, with 16 random bits for each score (docs/benchmarks.md says what that gains).
Torch only: an exported model carries a copy of this file.
"""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

BLOCK_SCORES = 2**17  # scores at a time: half a MiB in float32, which stays in the cache of a core
FEWEST_SCORES = 2**16  # scores of a call from which blocks are faster than PyTorch's kernel
DROP_LEVELS = 2**16  # of a random number that decides whether a weight is dropped
DRAWS_PER_WORD = 4  # random numbers in 64 bits

BlockPlace = tuple[slice, slice, slice]  # examples, heads, query rows
_EVERYTHING = slice(None)


# ---- places
def score_cuts(shape: torch.Size, key_len: int, heads_together: bool, most: int) -> tuple[list[slice], ...]:
    """Slices of (batch, heads, query_len) whose blocks hold at most `most` scores, or one row of them."""
    batch, heads, query_len = shape
    per_head = query_len * key_len
    examples = _block_slices(batch, most // max(1, heads * per_head))
    if heads * per_head <= most:
        return examples, [_EVERYTHING], [_EVERYTHING]
    if heads_together:
        return examples, [_EVERYTHING], _block_slices(query_len, most // (heads * key_len))
    return examples, _block_slices(heads, most // per_head), _block_slices(query_len, most // key_len)


def _block_slices(length: int, most: int) -> list[slice]:
    """Consecutive slices of `most`, but at least 1; one that takes everything where that is within `most`."""
    if length <= most:
        return [_EVERYTHING]
    return [slice(start, start + max(1, most)) for start in range(0, length, max(1, most))]


def cut_to_block(tensor: torch.Tensor | None, place: tuple[slice, ...]) -> torch.Tensor | None:
    """A part of a tensor along its first axes, those that broadcast left whole."""
    if tensor is None:
        return None
    return tensor[tuple(part if size > 1 else _EVERYTHING for part, size in zip(place, tensor.shape))]


# ---- a bias that follows from the offset, key position minus query position
def bias_by_offset(values: torch.Tensor, own: torch.Tensor, key_len: int) -> torch.Tensor:
    """The whole bias (1 | batch, heads, query_len, key_len).

    Args:
        values: of the offsets 1 - key_len .. key_len - 1, (heads, 2 * key_len - 1).
        own: positions of the queries among the keys, (1 | batch, query_len).
    """
    rows = key_len - 1 - own  # of all stretches of `key_len` values, where each query's begins
    picked = values.unfold(-1, key_len, 1).index_select(1, rows.flatten())
    return picked.unflatten(1, rows.shape).transpose(0, 1)


def _offsets_of(place: BlockPlace, shape: torch.Size, num_values: int) -> tuple[slice, slice]:
    """The part of the values that a block of scores (examples, heads, rows, keys) reads."""
    _, _, rows, keys = shape
    begin = num_values // 2 - ((place[2].start or 0) + rows - 1)
    return place[1], slice(begin, begin + rows + keys - 1)


def _spread(values: torch.Tensor, examples: int, keys: int) -> torch.Tensor:
    """The bias of a block, (examples, heads, rows, keys), written anew."""
    rows = torch.arange(values.shape[1] - keys, -1, -1)  # `flip` would put its rows in columns
    bias = values.unfold(-1, keys, 1).index_select(1, rows)
    return bias[None] if examples == 1 else bias.repeat(examples, 1, 1, 1)


def _sum_by_offset(of_scores: torch.Tensor) -> torch.Tensor:
    """The sum of each diagonal of a block, (heads, rows + keys - 1): `_spread`, backwards.

    With as many zeros before each row as there are rows, and rows then read as if they were one longer, each
    row is shifted back by one more than the row above it: what has the same offset stands in one column.
    """
    examples, _, rows, keys = of_scores.shape
    summed = of_scores[0] if examples == 1 else of_scores.sum(0)
    longer = rows + keys + 1
    shifted = pad(summed, (rows, 0, 0, 1)).flatten(1)[:, : rows * longer].unflatten(1, (rows, longer))
    return shifted.sum(1)[:, 1:-1]


# ---- dropout
def drop_elements(states: torch.Tensor, rate: float) -> torch.Tensor:
    """Dropout on a CPU; weights (batch, heads, query_len, key_len) as `attend_in_blocks` drops them.

    The rate is rounded to 1 / 65,536 and what is kept is scaled by just that, so the mean is exact.
    """
    lowest, gain = _keeping(rate)
    return states * (_drop_draws(states.shape) > lowest).to(states.dtype).mul_(gain)


def _keeping(rate: float) -> tuple[float, float]:
    """A weight is kept whose draw is above the first number; the second scales what is kept."""
    num_dropped = round(rate * DROP_LEVELS)
    num_kept = DROP_LEVELS - num_dropped
    return num_dropped - DROP_LEVELS / 2 - 0.5, DROP_LEVELS / num_kept if num_kept else 0.0


def _drop_draws(shape: torch.Size) -> torch.Tensor:
    """int16 from torch's default generator, whole rows of keys: blocks in order draw what the whole draws."""
    *rows, key_len = shape
    words = torch.empty(*rows, -(-key_len // DRAWS_PER_WORD), dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.int16)[..., :key_len]


# ---- attention with dropout
def attend_in_blocks(
    query, key, value, visible, bias, scale: float, rate: float, by_offset=None, read=None
) -> torch.Tensor:
    """softmax(query @ key * scale + bias), hidden keys left out, dropout, @ value, on a CPU.

    Args:
        query, key, value: (batch, heads, len, head_dim), key heads repeated.
        visible: booleans that broadcast to (batch, heads, query_len, key_len), True where a key is seen; or
            None.
        bias: added to the scores, of a shape that broadcasts to theirs; or None. It may ask for its gradient.
        rate: share of the weights that is dropped.
        by_offset: a bias besides, as `bias_by_offset` takes it, of which no more than a block is ever formed;
            or None. Queries stand at the positions of the keys.
        read: of each example, how many queries have a reader, the first ones; None: all. Others may get 0.

    Returns:
        (batch, heads, query_len, value_dim). A query that sees no key gets 0, or the mean under a bias, as
        from PyTorch's kernel.
    """
    dtype = query.dtype
    wide = torch.promote_types(dtype, torch.float32)
    query, key, value = (states.to(wide).contiguous() for states in (query, key, value))
    bias, by_offset = (None if term is None else term.to(wide) for term in (bias, by_offset))
    return _AttendInBlocks.apply(query, key, value, bias, by_offset, visible, scale, rate, read).to(dtype)


class _AttendInBlocks(torch.autograd.Function):
    """Keeps the weights of each block for the backward pass, a dropped one by its minus sign."""

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(ctx, query, key, value, bias, by_offset, visible, scale, rate, read):
        lowest, gain = _keeping(rate)
        key_len = key.shape[2]
        output = query.new_zeros(*query.shape[:3], value.shape[3])
        scaled, raised = query * scale, value * gain
        horizon = _Horizon(visible, key_len)
        blocks, kept_weights = [], []
        for whole in _block_places(query.shape[:3], key_len):
            draws = _drop_draws((*output[whole].shape[:3], key_len)) if rate else None
            place = _that_is_read(whole, read)
            if place is None:
                continue
            end, hidden, blind = horizon.of(place)
            shape = torch.Size((*output[place].shape[:3], end))
            rows, keys = _by_head(scaled[place]), _by_head(key[place[:2]][:, :, :end]).mT
            if by_offset is None:
                scores = rows.bmm(keys).view(shape)
            else:
                scores = _spread(by_offset[_offsets_of(place, shape, by_offset.shape[1])], shape[0], end)
                _by_head(scores).baddbmm_(rows, keys)
            if bias is not None:
                scores += cut_to_block(bias, place)[..., :end]
            if hidden is not None:
                scores.masked_fill_(hidden, torch.finfo(scores.dtype).min)
            weights = torch.softmax(scores, -1, out=scores)
            if blind is not None and bias is None and by_offset is None:
                weights.masked_fill_(blind, 0.0)
            if rate:
                weights.copysign_(torch.sub(draws[:, :, : shape[2], :end], lowest))
            dropped = _by_head(weights.clamp(min=0.0))
            output[place] = dropped.bmm(_by_head(raised[place[:2]][:, :, :end])).view(*shape[:3], -1)
            blocks.append((place, end, blind))
            kept_weights.append(weights)
        ctx.save_for_backward(query, key, value, *kept_weights)
        ctx.blocks, ctx.scale, ctx.gain = blocks, scale, gain
        ctx.term_shapes = [None if t is None or not t.requires_grad else t.shape for t in (bias, by_offset)]
        return output

    @staticmethod
    @once_differentiable
    @torch.autocast("cpu", enabled=False)
    def backward(ctx, gradient):
        query, key, value, *kept_weights = ctx.saved_tensors
        of_query, of_key, of_value = (torch.zeros_like(states) for states in (query, key, value))
        of_bias, of_offsets = (None if shape is None else query.new_zeros(shape) for shape in ctx.term_shapes)
        gradient = (gradient * ctx.gain).contiguous()
        scaled, scaled_key = query * ctx.scale, key * ctx.scale
        for (place, end, blind), weights in zip(ctx.blocks, kept_weights):
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
        return of_query, of_key, of_value, of_bias, of_offsets, None, None, None, None


def _block_places(shape: torch.Size, key_len: int) -> list[BlockPlace]:
    examples, heads, rows = score_cuts(shape, key_len, False, BLOCK_SCORES)
    return [(e, h, r) for e in examples for h in heads for r in rows]


def _that_is_read(place: BlockPlace, read: list[int] | None) -> BlockPlace | None:
    """The block without its last rows, as far as no example reads them; None where nothing is left."""
    if read is None:
        return place
    examples, heads, rows = place
    begin, end = rows.start or 0, max(read[examples])
    if begin >= end:
        return None
    return examples, heads, slice(begin, end if rows.stop is None else min(rows.stop, end))


def _by_head(states: torch.Tensor) -> torch.Tensor:
    """(examples, heads, rows, columns) -> (examples * heads, rows, columns)."""
    return states.flatten(0, 1)


class _Horizon:
    """How far the rows of a block see, so that keys which none of them sees are left out."""

    def __init__(self, visible: torch.Tensor | None, key_len: int) -> None:
        self._visible, self._key_len = visible, key_len
        self._known: dict = {}

    def of(self, place: BlockPlace) -> tuple[int, torch.Tensor | None, torch.Tensor | None]:
        """Keys that are looked at; which of them are hidden, None where none is; rows that see no key."""
        if self._visible is None:
            return self._key_len, None, None
        heads = place[1].start if self._visible.shape[1] > 1 else None
        known = (place[0].start, heads, place[2].start)  # heads mostly share a mask
        if known not in self._known:
            self._known[known] = self._look(cut_to_block(self._visible, place))
        return self._known[known]

    def _look(self, visible: torch.Tensor) -> tuple[int, torch.Tensor | None, torch.Tensor | None]:
        sees = visible.any(-1, keepdim=True)
        if not sees.all():
            return self._key_len, ~visible, ~sees
        end = int(visible.flatten(0, -2).any(0).nonzero()[-1]) + 1
        hidden = ~visible[..., :end]
        return end, hidden if hidden.any() else None, None
