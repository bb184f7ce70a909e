"""Attention of one query, as in a step that writes a token, by two matrix products.

They read keys and values in the order of memory; PyTorch's kernel for a CPU takes half as long again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

# Neighbouring rows of the batch, their queries that are read, and the keys that some of them sees.
Group = tuple[slice, slice, slice]
Pair = tuple[Tensor, Tensor]  # keys and values


def is_quick(query: Tensor) -> bool:
    """Return whether this is one query in float32; products in 16 bits would round its scores."""
    is_float = query.dtype == torch.float32 and not torch.is_autocast_enabled(query.device.type)
    return query.shape[2] == 1 and is_float


def attend_to_groups(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    groups: list[Group],
    added: Sequence[Tensor | None],
    scaling: float | None,
    keeps_keys: bool,
) -> Tensor:
    """Return the output of groups of rows that each see their own keys, (batch, 1, heads, value_dim).

    Args:
        query, key, value: (batch, heads | key_heads, len, head_dim).
        added: numbers on the scores of each group, or None; they broadcast to (rows, heads, 1, keys).
        keeps_keys: the same tensors come again, so that copying those of the groups is worth it.
    """
    query = query * (query.shape[3] ** -0.5 if scaling is None else scaling)
    pairs = _packed(key, value, groups) if keeps_keys else _cut(key, value, groups)
    outputs = [
        _attend(query[rows], *pair, bias)
        for (rows, _, _), pair, bias in zip(groups, pairs, added, strict=True)
    ]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _attend(query: Tensor, key: Tensor, value: Tensor, added: Tensor | None) -> Tensor:
    """Attend with scaled queries; heads that share keys are as several queries of one head."""
    rows, heads, key_heads = len(query), query.shape[1], key.shape[1]
    scores = torch.matmul(query.reshape(rows, key_heads, heads // key_heads, -1), key.mT)
    if added is not None:
        by_key_head = added if added.shape[1] == 1 else added.reshape(len(added), *scores.shape[1:3], -1)
        scores += by_key_head
    return torch.matmul(torch.softmax(scores, -1), value).reshape(rows, 1, heads, -1)


def _cut(key: Tensor, value: Tensor, groups: list[Group]) -> list[Pair]:
    return [(key[rows, :, keys], value[rows, :, keys]) for rows, _, keys in groups]


# Groups, and from their second time on their keys and values, by the keys of the whole batch.
_known: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _packed(key: Tensor, value: Tensor, groups: list[Group]) -> list[Pair]:
    """Return keys and values of the groups; where they come again, each in one piece of memory."""
    known, pairs = _known.get(key, ([], None))
    if known != groups:
        _known[key] = groups, None
        return _cut(key, value, groups)
    if pairs is None:
        # `data`, because a view would keep the keys, by which it is known, and all of them after the batch.
        pairs = [(k.contiguous().data, v.contiguous().data) for k, v in _cut(key, value, groups)]
        _known[key] = groups, pairs
    found: list[Pair] = pairs
    return found
