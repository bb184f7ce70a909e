"""Check that a query's own position and value are its own: one hidden state is moved, and values compared."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import ClassVar

import torch

from custom_attention import Variant, attached
from custom_attention.runtime.dispatch import Stack
from custom_attention.variant import Call

Run = Callable[[], None]
Arguments = tuple[tuple, dict]
States = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # value, own positions, own value


class Witness(Variant):
    """Stock attention that keeps what its first call has of values and own places."""

    seen: ClassVar[dict[str, States]] = {}

    def output(self, output: torch.Tensor, call: Call) -> torch.Tensor:
        if self.site.has_own_keys and self.site.name not in self.seen:
            self.seen[self.site.name] = call.value, call.own_positions(), call.own_value()
        return output


WITNESS = f"{__name__}:{Witness.__name__}"


class NotComparable(Exception):
    """The values of a site do not tell positions apart; the message says why."""


def misplaced(model: torch.nn.Module, before: Run, step: Run) -> str | None:
    """Return what is wrong at the first site with a wrong own place, or None.

    Args:
        before: what must have run, such as the start of a cache.
        step: the forward whose calls are looked at.

    Raises:
        NotComparable: no site tells its positions apart.
    """
    reasons, compared = [], 0
    with torch.no_grad():
        before()
        calls = _first_calls(model, step)
        for module, stack in attached(model):
            try:
                wrong = _misplaced_at(module, stack, calls.get(module))
            except NotComparable as reason:
                reasons.append(str(reason))
                continue
            if wrong:
                return f"{stack.site.name}: {wrong}"
            compared += 1
    if not compared:
        raise NotComparable(reasons[0])
    return None


def _first_calls(model: torch.nn.Module, step: Run) -> dict[torch.nn.Module, Arguments]:
    """Return a copy of the arguments of each site's first call, with its cache as it was then."""
    calls: dict[torch.nn.Module, Arguments] = {}

    def keep(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        if module not in calls:
            calls[module] = copy.deepcopy((args, kwargs))

    handles = [m.register_forward_pre_hook(keep, with_kwargs=True) for m, _ in attached(model)]
    try:
        step()
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _misplaced_at(module: torch.nn.Module, stack: Stack, call: Arguments | None) -> str | None:
    if not stack.site.has_own_keys:
        raise NotComparable("no query has a key of its own")
    if not stack.site.query_input:
        raise NotComparable("its hidden states were not found")
    if call is None:
        raise NotComparable("the batch does not reach it")
    before, length = _states(module, stack, call, None)
    for position in sorted({0, length // 2, length - 1}):
        after, _ = _states(module, stack, call, position)
        moved = _moved(after[0], before[0])
        if not moved.any():
            raise NotComparable("its values are not made from these hidden states")
        if (moved.sum(1) != 1).any():
            raise NotComparable("its values mix positions")
        place = before[1].expand(len(moved), -1)[:, position]
        if _places(moved).ne(place).any():
            at = _places(moved).tolist()
            return f"the own position of query {position} is {place.tolist()}, its value {at}"
        own = _moved(after[2], before[2])
        if (own.sum(1) != 1).any() or not own[:, position].all():
            return f"the own value of query {position} is that of another position"
    return None


def _states(
    module: torch.nn.Module, stack: Stack, call: Arguments, position: int | None
) -> tuple[States, int]:
    """Run a site alone, with the hidden state at `position` moved: what it says, and the number of states."""
    args, kwargs = copy.deepcopy(call)
    name = stack.site.query_input
    states = kwargs[name] if name in kwargs else args[stack.positions[name]]
    moved = states.clone()
    if position is not None:
        noise = torch.randn(states.shape[-1], generator=torch.Generator().manual_seed(4))
        moved[:, position] += noise.to(states)
    # Some modules take the same tensor as query, key and value.
    args = tuple(moved if value is states else value for value in args)
    kwargs = {key: moved if value is states else value for key, value in kwargs.items()}
    Witness.seen.clear()
    torch.manual_seed(0)  # some models draw in evaluation too
    module(*args, **kwargs)
    seen = Witness.seen[stack.site.name]
    if states.shape[:2] != (seen[2].shape[0], seen[2].shape[2]):
        raise NotComparable("its queries are not one for each hidden state")
    return seen, states.shape[1]


def _moved(after: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Return which positions of values differ, (batch, len)."""
    return (after != before).any(3).any(1)


def _places(moved: torch.Tensor) -> torch.Tensor:
    return moved.int().argmax(1)
