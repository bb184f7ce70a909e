"""FlexAttention in the place of sdpa: bias, mask and `scores` of variants are a part of the kernel.

On a GPU it is compiled. On a CPU PyTorch computes it without a gradient only; there it is not compiled and is
a reference for tests.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from custom_attention.errors import VariantError
from custom_attention.runtime.call import Call
from custom_attention.runtime.dispatch import Stack
from custom_attention.runtime.kernel import OWN_SCORE_TERMS, Attended, hides_later_keys
from custom_attention.variant import Variant

WHERE = "kernel flex"
OTHERWISE = "leave kernel out"
Change = Callable[[Tensor], Tensor]  # of one score


def put_on(stack: Stack) -> None:
    """Let a stack compute its attention by FlexAttention.

    Raises:
        VariantError: a variant replaces the softmax or the dropout, or its scores depend on each other.
    """
    for variant in stack.having("normalize", "dropout"):
        what = "a variant replaces the softmax or the dropout, which this kernel has inside"
        raise VariantError(f"{WHERE}: {stack.site.name}", what, type(variant).__name__, OTHERWISE)
    seeing = stack.having("scores")
    for variant in seeing:
        _refuse_unless_pointwise(variant)
    stack.kernel, stack.own_kernel = attend, False
    if seeing:
        stack.scores_kernel = functools.partial(attend, changes=tuple(map(_of_one_score, seeing)))


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    is_causal: bool | None = None,
    changes: tuple[Change, ...] = (),
    **others: Any,
) -> Attended:
    """Compute one attention call, as sdpa does.

    Args:
        changes: what variants make of a score, before bias and mask.

    Raises:
        VariantError: the call needs what FlexAttention does not have.
    """
    _refuse(query, key, value, dropout, others)
    shape = (*query.shape[:3], key.shape[2])
    hides_later = mask is None and shape[2] > 1 and hides_later_keys(module, is_causal)
    change = _score_change(shape, mask, position_bias, hides_later, changes)
    output = _kernel(query.device.type)(
        query, key, value, score_mod=change, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    return output.transpose(1, 2).contiguous(), None


def _score_change(
    shape: tuple[int, ...],
    mask: Tensor | None,
    bias: Tensor | None,
    hides_later: bool,
    changes: tuple[Change, ...],
) -> Callable[..., Tensor]:
    """Return the function of one score and its place: the changes, the bias, the mask last."""
    # A row without a visible key gets 0; under a bias the mean of the values, as from sdpa.
    hidden = -math.inf if bias is None else torch.finfo(torch.float32).min
    added = None if bias is None else bias.expand(shape)
    mask = None if mask is None else mask.expand(shape)

    def changed(score: Tensor, batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        for change in changes:
            score = change(score)
        if added is not None:
            score = score + added[batch, head, row, column]
        if mask is not None and mask.dtype == torch.bool:
            return torch.where(mask[batch, head, row, column], score, hidden)
        if mask is not None:
            return score + mask[batch, head, row, column]
        return torch.where(column <= row, score, hidden) if hides_later else score

    return changed


def _refuse(query: Tensor, key: Tensor, value: Tensor, dropout: float, others: dict[str, Any]) -> None:
    """Refuse a call that the kernel cannot compute."""
    if dropout:
        fix = "set the dropout of attention to 0 in the model's config, or leave kernel out"
        raise VariantError(WHERE, "FlexAttention has no dropout of weights", f"{dropout:g}", fix)
    own = [name for name in OWN_SCORE_TERMS if others.get(name) is not None]
    if own:
        what = f"the model has its own `{own[0]}` inside the softmax"
        raise VariantError(WHERE, what, accepted=OTHERWISE)
    learns = torch.is_grad_enabled() and any(states.requires_grad for states in (query, key, value))
    if query.device.type == "cpu" and learns:
        what = "FlexAttention has no backward pass on a CPU"
        raise VariantError(WHERE, what, accepted="a GPU, or leave kernel out")


def _of_one_score(variant: Variant) -> Change:
    """Return the hook `scores` of a variant for one score."""
    return lambda score: variant.scores(score.reshape(1, 1, 1, 1), cast(Call, None)).reshape(score.shape)


def _refuse_unless_pointwise(variant: Variant) -> None:
    """Refuse a variant whose change of a score depends on more than that score."""
    what = "its hook scores reads more than the one score, which is all that the kernel shows it"
    refusal = VariantError(f"{WHERE}: {variant.site.name}", what, type(variant).__name__, OTHERWISE)
    heads = variant.site.num_heads
    scores = torch.randn(2, heads, 3, 4, generator=torch.Generator().manual_seed(7))
    try:
        with torch.no_grad():
            whole = variant.scores(scores, cast(Call, None))
            each = variant.scores(scores.reshape(-1, 1, 1, 1), cast(Call, None))
    except Exception as error:  # the user's own code; it reads a call, or its parameters have other shapes
        raise refusal from error
    if whole.shape != scores.shape or not torch.allclose(whole, each.reshape(scores.shape)):
        raise refusal


@functools.cache
def _kernel(device: str) -> Callable[..., Tensor]:
    """Return the function that computes attention on a kind of device."""
    if device != "cpu":
        # Dynamic, so that lengths that vary compile it once; whole, so that it never runs without its kernel.
        return cast(Callable[..., Tensor], torch.compile(flex_attention, dynamic=True, fullgraph=True))

    def reference(*states: Tensor, **options: Any) -> Tensor:
        with torch.compiler.set_stance("force_eager"):
            return cast(Callable[..., Tensor], flex_attention)(*states, **options)

    return reference
