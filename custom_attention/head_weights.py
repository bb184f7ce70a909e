"""Find the stored weights that make the states of one head, by changing weights and comparing the states
that reach the dispatcher. No table of parameter names is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from custom_attention.dummy_inputs import made_up_example
from custom_attention.errors import VariantError
from custom_attention.kernel_names import dispatching
from custom_attention.modes import quiet, without_cache
from custom_attention.runtime.dispatch import ATTRIBUTE, observed
from custom_attention.sites import Found

STATES = ("query", "key", "value", "position_bias")
# A smaller change, relative to the largest state, is rounding. A linear map of doubled weights doubles up to
# 1e-6 in float32 and 1e-2 in bfloat16; a normalised one does not double at all.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class WeightBlock:
    """The part of a parameter that makes one head: `length` indices of one axis from `start`.

    Attributes:
        parameter: its name below the attention module.
    """

    parameter: str
    axis: int
    start: int
    length: int

    def multiply(self, module: nn.Module, factor: float | Tensor) -> None:
        """Multiply in place, in float64, rounded once; a tensor has `length` factors, along the axis."""
        part = self.of(module)
        if isinstance(factor, Tensor):
            along_axis = [-1 if axis == self.axis else 1 for axis in range(part.dim())]
            factor = factor.to(part.device).double().view(along_axis)
        part.copy_((part.double() * factor).to(part.dtype))

    def of(self, module: nn.Module) -> Tensor:
        """Return the weights of this block, a view."""
        return module.get_parameter(self.parameter).data.narrow(self.axis, self.start, self.length)


BlocksOfHeads = dict[nn.Module, list[list[WeightBlock]]]  # for each attention module, the blocks of each head
Arguments = tuple[tuple[Any, ...], dict[str, Any]]  # positional and keyword arguments of a module
States = tuple[Tensor, ...]  # as STATES: (batch, heads | key_heads, len, size)


def head_blocks(
    model: PreTrainedModel,
    found: list[Found],
    state: str = "query",
    example: Mapping[str, Any] | None = None,
) -> BlocksOfHeads:
    """Return for each site the blocks that make each head of `state` ("query", "key", "value").

    A block belongs to a head if a change of it changes that head of that state and no other state, nor the
    position bias. The blocks of a head are complete if doubling all of them doubles the head.

    Raises:
        VariantError: no blocks are found, for example because the model normalises its queries.
    """
    batch = dict(example) if example is not None else made_up_example(model)
    with quiet(model), dispatching(model), torch.no_grad():
        inputs = _inputs(model, found, batch)
        return {
            f.module: _blocks_of_site(f, _states_of(f.module, inputs[f.module]), STATES.index(state))
            for f in found
        }


def output_blocks(model: PreTrainedModel, found: list[Found], example: Mapping[str, Any]) -> BlocksOfHeads:
    """Return for each site the blocks that read each query head's output, such as the columns of W_o.

    Only projections inside the attention module are found.

    Raises:
        VariantError: no block reads the output of one head alone.
    """
    with quiet(model), dispatching(model), torch.no_grad():
        inputs = _inputs(model, found, dict(example))
        return {f.module: _reading_blocks(f, inputs[f.module]) for f in found}


def _reading_blocks(found: Found, arguments: Arguments) -> list[list[WeightBlock]]:
    module, generator = found.module, torch.Generator().manual_seed(0)

    def result(without_head: int | None = None) -> Tensor:
        """Run the module with fixed noise as the output of its heads, and zeros for one of them."""

        def noise(_: nn.Module, query: Tensor, key: Tensor, value: Tensor, *rest: object) -> Tensor:
            output = torch.randn(_output_shape(query, value), generator=generator.manual_seed(0))
            output = output.to(query.device, query.dtype)
            if without_head is not None:
                output[:, :, without_head] = 0
            return output

        args, kwargs = arguments
        with observed(noise):
            returned = module(*args, **kwargs)
        return returned[0] if isinstance(returned, tuple) else returned

    whole = result()
    without = [result(head) for head in range(found.site.num_heads)]
    limit = TOLERANCE[whole.dtype] * whole.abs().max()
    heads: list[list[WeightBlock]] = [[] for _ in without]
    for name, parameter in module.named_parameters():
        if f".{ATTRIBUTE}." in f".{name}" or parameter.dim() < 2:
            continue
        for block in _candidates(name, parameter, found.site.head_dim):
            part = block.of(module)
            with _replaced([part], [torch.zeros_like(part)]):
                changed = result()
            if (changed - whole).abs().max() > limit:
                for head, without_head in enumerate(without):
                    if (changed - without_head).abs().max() <= limit:
                        heads[head].append(block)
    if not all(len(blocks) == 1 for blocks in heads):
        raise VariantError(found.site.name, "no stored weights read the output of each head by itself")
    return heads


def refuse_shared_weights(blocks: BlocksOfHeads) -> None:
    """Refuse a weight that two sites use: it would be multiplied twice.

    Raises:
        VariantError: two sites share a weight.
    """
    owners: dict[int, nn.Module] = {}
    for module, heads in blocks.items():
        for block in (block for head in heads for block in head):
            owner = owners.setdefault(id(module.get_parameter(block.parameter)), module)
            if owner is not module:
                what = "two attention sites share this weight, so it cannot be rescaled"
                raise VariantError(block.parameter, what)


def _inputs(model: PreTrainedModel, found: list[Found], batch: dict[str, Any]) -> dict[nn.Module, Arguments]:
    """Return the arguments of the first call of each attention module in one forward."""
    inputs: dict[nn.Module, Arguments] = {}

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs.setdefault(module, (args, kwargs))

    def zeros(_: nn.Module, query: Tensor, key: Tensor, value: Tensor, *rest: object) -> Tensor:
        return query.new_zeros(_output_shape(query, value))

    handles = [f.module.register_forward_pre_hook(keep, with_kwargs=True) for f in found]
    batch.pop("use_cache", None)
    try:
        with without_cache(model), observed(zeros):
            model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return inputs


def _states_of(module: nn.Module, arguments: Arguments) -> Callable[[], States]:
    """Return a function that runs `module` alone and returns the states that reach the dispatcher."""

    def run() -> States:
        args, kwargs = arguments
        seen: list[States] = []

        def keep(_: nn.Module, query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
            bias = rest[-1].get("position_bias")
            bias = query.new_zeros(1, 1, 1, 1) if bias is None else bias
            seen.append((query.clone(), key.clone(), value.clone(), bias.clone()))
            return query.new_zeros(_output_shape(query, value))

        with observed(keep):
            module(*args, **kwargs)
        return seen[0]

    return run


def _output_shape(query: Tensor, value: Tensor) -> tuple[int, ...]:
    return query.shape[0], query.shape[2], query.shape[1], value.shape[-1]


def _blocks_of_site(found: Found, states: Callable[[], States], which: int) -> list[list[WeightBlock]]:
    module, before = found.module, states()
    target = before[which]
    heads: list[list[WeightBlock]] = [[] for _ in range(target.shape[1])]
    for name, parameter in module.named_parameters():
        if f".{ATTRIBUTE}." in f".{name}" or not parameter.is_floating_point():
            continue
        with _noise_added(parameter.data):
            if not _changed_heads(before, states(), which).any():
                continue
        for block in _candidates(name, parameter, target.shape[-1]):
            with _noise_added(block.of(module)):
                after = states()
            changed = _changed_heads(before, after, which)
            others = any(_changed_heads(before, after, w).any() for w in range(len(STATES)) if w != which)
            if changed.sum() == 1 and not others and _is_over_channels(module, block, states, before, which):
                heads[int(changed.nonzero())].append(block)
    for head, blocks in enumerate(heads):
        if not _is_complete(module, blocks, head, states, before, which):
            what = f"no stored weights make head {head} of the {STATES[which]} alone by a linear map"
            fix = (
                "choose a model that does not normalise queries and keys, nor make its position bias of them"
            )
            raise VariantError(found.site.name, what, accepted=fix)
    return heads


def _candidates(name: str, parameter: Tensor, head_dim: int) -> Iterator[WeightBlock]:
    for axis, size in enumerate(parameter.shape):
        if size % head_dim == 0:
            yield from (WeightBlock(name, axis, start, head_dim) for start in range(0, size, head_dim))


def _changed_heads(before: States, after: States, which: int) -> Tensor:
    """Return which heads of a state changed by more than rounding, booleans (heads,)."""
    change = (after[which] - before[which]).abs().amax((0, 2, 3))
    return change > TOLERANCE[before[which].dtype] * before[which].abs().max()


def _is_over_channels(
    module: nn.Module, block: WeightBlock, states: Callable[[], States], before: States, which: int
) -> bool:
    """Return whether the axis of the block is the head's channels.

    One index then changes at most two channels, because a rotary embedding pairs two. With a single head the
    input axis of a matrix looks like a block too, but there one index changes every channel.
    """
    with _noise_added(replace(block, length=1).of(module)):
        change = (states()[which] - before[which]).abs().amax((0, 1, 2))
    return int((change > TOLERANCE[before[which].dtype] * before[which].abs().max()).sum()) <= 2


def _is_complete(
    module: nn.Module,
    blocks: list[WeightBlock],
    head: int,
    states: Callable[[], States],
    before: States,
    which: int,
) -> bool:
    """Return whether the head is a linear function of these blocks and of no other weight."""
    parts = [block.of(module) for block in blocks]
    with _replaced(parts, [torch.zeros_like(part) for part in parts]):
        without = states()[which][:, head]
    with _replaced(parts, [2 * part for part in parts]):
        twice = states()[which][:, head]
    error = (twice - 2 * before[which][:, head]).abs().max()
    return not without.any() and bool(error <= TOLERANCE[twice.dtype] * before[which].abs().max())


def _noise_added(part: Tensor) -> AbstractContextManager[None]:
    """Add noise to weights in a `with` block, also to weights that are zero, such as a new bias."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(part.shape, generator=generator).to(part.device, part.dtype)
    return _replaced([part], [part + noise * part.abs().max().clamp(min=1.0)])


@contextmanager
def _replaced(parts: list[Tensor], values: list[Tensor]) -> Iterator[None]:
    kept = [part.clone() for part in parts]
    for part, value in zip(parts, values):
        part.copy_(value)
    try:
        yield
    finally:
        for part, value in zip(parts, kept):
            part.copy_(value)
