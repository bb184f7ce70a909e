"""Which stored weights make the states of a head: found by changing them and watching the seam, without
name tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from custom_attention.dummy_inputs import made_up_example
from custom_attention.errors import VariantError
from custom_attention.modes import quiet, without_cache
from custom_attention.runtime.dispatch import ATTRIBUTE, observed
from custom_attention.sites import Found, dispatching

STATES = {"query": 0, "key": 1, "value": 2}
# Relative size below which a change is rounding. A linear map doubles to 1e-6 in float32 and 1e-2 in
# bfloat16; a normalised one does not double at all.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class WeightBlock:
    """The part of a parameter that makes one head: `length` indices of one axis from `start`."""

    parameter: str  # name below the attention module
    axis: int
    start: int
    length: int

    def multiply(self, module: nn.Module, factor: float | torch.Tensor) -> None:
        """Multiply in place, in float64, rounded once. A tensor of `length` factors runs along the axis."""
        part = module.get_parameter(self.parameter).data.narrow(self.axis, self.start, self.length)
        if torch.is_tensor(factor) and factor.dim():
            factor = (
                factor.to(part.device)
                .double()
                .view(*[-1 if a == self.axis else 1 for a in range(part.dim())])
            )
        part.copy_((part.double() * factor).to(part.dtype))


def head_blocks(
    model: nn.Module, found: list[Found], state: str = "query", example: Mapping | None = None
) -> dict[nn.Module, list[list[WeightBlock]]]:
    """For each site the blocks that make each head of `state` ("query", "key", "value"), one list per head.

    A block belongs to a head when changing it moves that head of that state and nothing else at the seam;
    the blocks of a head are complete when doubling them all doubles the head. Raises VariantError where
    none are found, as behind a normalisation of the queries.
    """
    batch = dict(example) if example is not None else made_up_example(model)
    with quiet(model), dispatching(model), torch.no_grad():
        inputs = _inputs(model, found, batch)
        return {
            f.module: _blocks_of_site(f, _seam(f.module, *inputs[f.module]), STATES[state]) for f in found
        }


def output_blocks(
    model: nn.Module, found: list[Found], example: Mapping
) -> dict[nn.Module, list[list[WeightBlock]]]:
    """For each site the blocks that read each query head's output, as the columns of W_o, one list per head.

    Only projections inside the attention module are seen. Raises VariantError where a head cannot be told
    apart.
    """
    with quiet(model), dispatching(model), torch.no_grad():
        inputs = _inputs(model, found, dict(example))
        return {f.module: _reading_blocks(f, *inputs[f.module]) for f in found}


def _reading_blocks(found: Found, args: tuple, kwargs: dict) -> list[list[WeightBlock]]:
    module, generator = found.module, torch.Generator().manual_seed(0)

    def result(silent: int | None = None) -> torch.Tensor:
        """What the module returns when its heads say fixed noise and one of them nothing."""

        def noise(_, query, key, value, *rest):
            said = torch.randn(_output_shape(query, value), generator=generator.manual_seed(0))
            said = said.to(query.device, query.dtype)
            if silent is not None:
                said[:, :, silent] = 0
            return said

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
            part = parameter.data.narrow(block.axis, block.start, block.length)
            with _replaced([part], [torch.zeros_like(part)]):
                changed = result()
            if (changed - whole).abs().max() > limit:
                for head, silenced in enumerate(without):
                    if (changed - silenced).abs().max() <= limit:
                        heads[head].append(block)
    if not all(len(blocks) == 1 for blocks in heads):
        raise VariantError(found.site.name, "no stored weights read the output of each head by itself")
    return heads


def refuse_shared_weights(blocks: dict[nn.Module, list[list[WeightBlock]]]) -> None:
    """A weight that two sites use would be multiplied twice."""
    owners: dict[int, nn.Module] = {}
    for module, heads in blocks.items():
        for block in (block for head in heads for block in head):
            owner = owners.setdefault(id(module.get_parameter(block.parameter)), module)
            if owner is not module:
                what = "two attention sites share this weight, so it cannot be rescaled"
                raise VariantError(block.parameter, what)


def _inputs(model: nn.Module, found: list[Found], batch: dict) -> dict[nn.Module, tuple]:
    """What each attention module is called with in one forward."""
    inputs: dict[nn.Module, tuple] = {}

    def keep(module, args, kwargs):
        inputs.setdefault(module, (args, kwargs))

    handles = [f.module.register_forward_pre_hook(keep, with_kwargs=True) for f in found]
    batch.pop("use_cache", None)
    try:
        with (
            without_cache(model),
            observed(lambda module, query, key, value, *_: query.new_zeros(_output_shape(query, value))),
        ):
            model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return inputs


def _seam(module: nn.Module, args: tuple, kwargs: dict) -> Callable[[], tuple[torch.Tensor, ...]]:
    """A function that runs `module` alone and returns query, key and value as they arrive at the seam."""

    def run() -> tuple[torch.Tensor, ...]:
        seen = []

        def keep(_, query, key, value, *rest):
            seen.append((query.clone(), key.clone(), value.clone()))
            return query.new_zeros(_output_shape(query, value))

        with observed(keep):
            module(*args, **kwargs)
        return seen[0]

    return run


def _output_shape(query: torch.Tensor, value: torch.Tensor) -> tuple[int, ...]:
    return query.shape[0], query.shape[2], query.shape[1], value.shape[-1]


def _blocks_of_site(found: Found, seam: Callable, which: int) -> list[list[WeightBlock]]:
    module, before = found.module, seam()
    target = before[which]
    heads = [[] for _ in range(target.shape[1])]
    for name, parameter in module.named_parameters():
        if f".{ATTRIBUTE}." in f".{name}" or not parameter.is_floating_point():
            continue
        with _noisy(parameter.data):
            if not _moved(before, seam(), which).any():
                continue
        for block in _candidates(name, parameter, target.shape[-1]):
            with _noisy(parameter.data.narrow(block.axis, block.start, block.length)):
                after = seam()
            moved = _moved(before, after, which)
            others = any(_moved(before, after, w).any() for w in range(3) if w != which)
            if moved.sum() == 1 and not others and _rows(parameter, block, seam, before, which):
                heads[int(moved.nonzero())].append(block)
    for head, blocks in enumerate(heads):
        if not _complete(module, blocks, head, seam, before, which):
            raise VariantError(
                found.site.name,
                f"no stored weights make head {head} of the {list(STATES)[which]} by a linear map",
                accepted="choose a model without normalised queries and keys",
            )
    return heads


def _candidates(name: str, parameter: torch.Tensor, head_dim: int) -> Iterator[WeightBlock]:
    for axis, size in enumerate(parameter.shape):
        if size % head_dim == 0:
            yield from (WeightBlock(name, axis, start, head_dim) for start in range(0, size, head_dim))


def _moved(before, after, which: int) -> torch.Tensor:
    """Which heads of a state changed beyond rounding, (heads,)."""
    change = (after[which] - before[which]).abs().amax((0, 2, 3))
    return change > TOLERANCE[before[which].dtype] * before[which].abs().max()


def _rows(parameter: torch.Tensor, block: WeightBlock, seam: Callable, before, which: int) -> bool:
    """Whether the axis runs over the head's channels: one index then moves at most two of them (a rotation
    pairs two).

    With a single head the input axis of a matrix looks like a block too; there one index moves every channel.
    """
    with _noisy(parameter.data.narrow(block.axis, block.start, 1)):
        change = (seam()[which] - before[which]).abs().amax((0, 1, 2))
    return int((change > TOLERANCE[before[which].dtype] * before[which].abs().max()).sum()) <= 2


def _complete(
    module: nn.Module, blocks: list[WeightBlock], head: int, seam: Callable, before, which: int
) -> bool:
    """Whether the head is a linear function of these blocks and of nothing else."""
    parts = [module.get_parameter(b.parameter).data.narrow(b.axis, b.start, b.length) for b in blocks]
    with _replaced(parts, [torch.zeros_like(part) for part in parts]):
        without = seam()[which][:, head]
    with _replaced(parts, [2 * part for part in parts]):
        twice = seam()[which][:, head]
    error = (twice - 2 * before[which][:, head]).abs().max()
    return not without.any() and bool(error <= TOLERANCE[twice.dtype] * before[which].abs().max())


def _noisy(part: torch.Tensor):
    """While active the weights are others, also where they were zero (a fresh bias)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(part.shape, generator=generator).to(part.device, part.dtype)
    return _replaced([part], [part + noise * part.abs().max().clamp(min=1.0)])


@contextmanager
def _replaced(parts: list[torch.Tensor], values: list[torch.Tensor]) -> Iterator[None]:
    kept = [part.clone() for part in parts]
    for part, value in zip(parts, values):
        part.copy_(value)
    try:
        yield
    finally:
        for part, value in zip(parts, kept):
            part.copy_(value)
