"""Attention that reads no hidden key: rows of a batch in groups, each cut to the keys that its rows see.

On a CPU, PyTorch's attention reads the keys and values of padding like others, so each text takes as long as
the longest of its batch. Queries whose output nobody reads are left out, too. Several queries go to the
model's own kernel, group by group; a single one, as in a step that writes a token, to `one_query.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from custom_attention.attach import attached
from custom_attention.kernels.one_query import Group, attend_to_groups, is_quick
from custom_attention.runtime.blockwise import cut_to_block
from custom_attention.runtime.dispatch import Stack
from custom_attention.runtime.kernel import OWN_SCORE_TERMS, Attended, Kernel
from custom_attention.runtime.tokens import visible

SDPA: Kernel = sdpa_attention_forward
CALL = 2**15  # products of query and key that take as long as one group more
ALL = slice(None)


@contextmanager
def without_hidden_keys(model: nn.Module) -> Iterator[None]:
    """Let an attached model read no hidden keys inside the block: on a CPU, where nothing is learned."""
    stacks = [stack for _, stack in attached(model) if stack.kernel is sdpa_attention_forward]
    for stack in stacks:
        stack.kernel = partial(attend, stack)
    try:
        yield
    finally:
        for stack in stacks:
            stack.kernel = sdpa_attention_forward


def attend(
    stack: Stack,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **others: Any,
) -> Attended:
    """Compute one attention call of a site as sdpa does, up to rounding; 0 for queries that nobody reads."""
    meaning = _meaning(mask, query, key) if _is_plain(query, others) else None
    if meaning is None:
        given = {"scaling": scaling, "position_bias": position_bias, **others}
        return SDPA(module, query, key, value, mask, **given)
    is_one = is_quick(query)
    groups = meaning.groups(query, None if is_one else stack.read)
    added = meaning.added(mask, position_bias, groups, query.dtype)
    if is_one:
        # The same keys come in each step: those of a source, which no variant changes.
        keeps_keys = stack.site.is_cross and not stack.having("key", "value")
        return attend_to_groups(query, key, value, groups, added, scaling, keeps_keys), None
    batch, heads, query_len = query.shape[:3]
    output = query.new_zeros(batch, query_len, heads, value.shape[3])
    for (rows, queries, keys), terms in zip(groups, added, strict=True):
        states = query[rows, :, queries], key[rows, :, keys], value[rows, :, keys]
        output[rows, queries] = SDPA(module, *states, terms, scaling=scaling, **others)[0]
    return output, None


def _is_plain(query: Tensor, others: dict[str, Any]) -> bool:
    has_other_terms = any(others.get(name) is not None for name in (*OWN_SCORE_TERMS, "cache"))
    return query.device.type == "cpu" and not others.get("dropout") and not has_other_terms


@dataclass
class _Meaning:
    """What the mask of a forward says; all layers share it.

    Attributes:
        ranges: for each row the first key that it sees, and the one after the last; none without a mask.
    """

    ranges: list[tuple[int, int]]
    _groups: dict[tuple[int, ...], list[Group]] = field(default_factory=dict)
    _added: list[Tensor | None] = field(default_factory=list)
    _added_of: tuple[Tensor | None, list[Group], torch.dtype] | None = None

    def groups(self, query: Tensor, read: Sequence[int] | None) -> list[Group]:
        """Return the groups of a call.

        Args:
            read: for each row, the number of its first queries whose output is used; None: all.
        """
        if not self.ranges:
            return [(ALL, ALL, ALL)]
        most = CALL // query.shape[1:].numel()
        known = most, *(read or ())
        if known not in self._groups:
            self._groups[known] = [
                (rows, ALL if read is None else slice(max(1, *read[rows])), keys)
                for rows, keys in _grouped(self.ranges, most)
            ]
        return self._groups[known]

    def added(
        self, mask: Tensor | None, bias: Tensor | None, groups: list[Group], dtype: torch.dtype
    ) -> list[Tensor | None]:
        """Return what is added to the scores of each group: the bias, and minus infinity at hidden keys."""
        known = self._added_of
        if known is None or known[0] is not bias or known[1] is not groups or known[2] != dtype:
            self._added.clear()  # before the next ones take memory
            places = [(rows, ALL, queries, keys) for rows, queries, keys in groups]
            self._added = [_sum(mask, bias, place, dtype) for place in places]
            self._added_of = bias, groups, dtype
        return self._added


# By the mask, which all layers share.
_known: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _meaning(mask: Tensor | None, query: Tensor, key: Tensor) -> _Meaning | None:
    """Return what a mask says; None where the call is not cut."""
    if mask is None:
        return _Meaning([]) if is_quick(query) else None
    if mask.dim() != 4 or mask.shape[::3] != key.shape[::2][:2] or len(key) != len(query):
        return None
    if mask not in _known:
        _known[mask] = _read(mask)
    found: _Meaning | None = _known[mask]
    return found


def _read(mask: Tensor) -> _Meaning | None:
    """Return what a mask says; None where a query sees no key: its output depends on the hidden ones."""
    seen = visible(mask).view(torch.uint8)  # of which `amax` is much faster than `any` of booleans
    if not seen.amax(-1).all():
        return None
    of_rows = seen.amax((1, 2))
    first, back = of_rows.argmax(1), of_rows.flip(1).argmax(1)
    return _Meaning(list(zip(first.tolist(), (mask.shape[-1] - back).tolist())))


def _grouped(ranges: list[tuple[int, int]], most: int) -> list[tuple[slice, slice]]:
    """Return groups of neighbouring rows, and the keys of each.

    Args:
        most: keys that the rows of a group may read without seeing them, all together.
    """
    groups: list[tuple[slice, slice]] = []
    begin, num_seen, (start, end) = 0, 0, ranges[0]
    for row, (first, last) in enumerate(ranges):
        num_seen += last - first
        lower, upper = min(start, first), max(end, last)
        if (row + 1 - begin) * (upper - lower) - num_seen > most:
            groups.append((slice(begin, row), slice(start, end)))
            begin, num_seen, lower, upper = row, last - first, first, last
        start, end = lower, upper
    return [*groups, (slice(begin, len(ranges)), slice(start, end))]


def _sum(
    mask: Tensor | None, bias: Tensor | None, place: tuple[slice, ...], dtype: torch.dtype
) -> Tensor | None:
    """Return a part of the mask as numbers, plus the bias."""
    if bias is not None:  # a variant may leave out its first dimensions
        bias = cut_to_block(bias[(None,) * (4 - bias.dim())], place)
    if mask is None:
        return bias
    mask = cut_to_block(mask, place)
    if mask.dtype == torch.bool:
        return torch.where(mask, mask.new_zeros((), dtype=dtype) if bias is None else bias, -torch.inf)
    return mask.clone() if bias is None else mask + bias  # a view would keep the mask, by which it is known
