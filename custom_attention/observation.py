"""Run a model once and look at the weights of each of its attention calls, with variants attached or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from custom_attention.attach import attach, attached, detach, is_attached
from custom_attention.errors import VariantError
from custom_attention.modes import quiet
from custom_attention.runtime.call import Call
from custom_attention.runtime.dispatch import ATTRIBUTE, Stack, observed
from custom_attention.runtime.kernel import OWN_SCORE_TERMS

Look = Callable[[Stack, Call, Tensor], None]  # the stack, its call, the output (batch, query_len, heads, dim)


@contextmanager
def observed_forward(
    model: PreTrainedModel, batch: Mapping[str, Any], look: Look
) -> Iterator[list[tuple[nn.Module, Stack]]]:
    """Run `model` on `batch` in evaluation mode, call `look` in each attention call, and yield those reached.

    The model is as before when the block ends.

    Args:
        batch: keyword arguments of one forward.
        look: it may compute the weights of the call again (`Stack.enter`, `Stack.weigh`).

    Raises:
        VariantError: the model does not dispatch, or a call has no weights that can be computed.
    """
    reached: set[nn.Module] = set()

    def observe(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scaling: float | None,
        kwargs: Mapping[str, Any],
    ) -> Tensor:
        stack: Stack = getattr(module, ATTRIBUTE)
        _require_weights(stack, kwargs)
        arguments = stack.state.arguments
        output, _ = stack(module, query, key, value, mask, scaling, 0.0, kwargs)
        stack.state.arguments = arguments  # the call of the stack has used them up
        call = Call(stack, module, query, key, value, mask, scaling, 0.0, kwargs)
        with torch.autocast(query.device.type, enabled=False):
            look(stack, call, output)
        reached.add(module)
        return output

    stock = not is_attached(model)
    if stock:
        attach(model, [], example=batch)
    try:
        with quiet(model), torch.no_grad(), observed(observe):
            model(**batch)
        yield [(module, stack) for module, stack in attached(model) if module in reached]
    finally:
        if stock:
            detach(model)


def _require_weights(stack: Stack, kwargs: Mapping[str, Any]) -> None:
    if stack.replaces_kernel:
        raise VariantError(stack.site.name, "a variant replaces the kernel here, so there are no weights")
    own = [name for name in OWN_SCORE_TERMS if kwargs.get(name) is not None]
    if own:
        what = f"this model has its own `{own[0]}` inside the softmax, so its weights cannot be computed"
        raise VariantError(stack.site.name, what)
