"""Check that a query's own position and value are its own: one hidden state is moved, and values compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch

from custom_attention import Variant, attached

Run = Callable[[], None]
States = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # value, own positions, own value


class Witness(Variant):
    """Stock attention that keeps what its first call has of values and own places."""

    seen: ClassVar[dict[str, States]] = {}

    def output(self, output, call):
        if self.site.has_own_keys and self.site.name not in self.seen:
            self.seen[self.site.name] = call.value, call.own_positions(), call.own_value()
        return output


WITNESS = f"{__name__}:{Witness.__name__}"


class NotComparable(Exception):
    """The values of a site do not tell positions apart; the message says why."""


def misplaced(model: torch.nn.Module, run: Run, last_step: Run) -> str | None:
    """Return what is wrong at the first site with a wrong own place, or None.

    Args:
        run: all of a forward before the call that is looked at, such as the start of a cache.
        last_step: the call that is looked at.

    Raises:
        NotComparable: no site tells its positions apart.
    """
    reasons, compared = [], 0
    for module, stack in attached(model):
        if not stack.site.has_own_keys:
            reasons.append("no query has a key of its own")
            continue
        if not stack.site.query_input:
            reasons.append("its hidden states were not found")
            continue
        try:
            wrong = _misplaced_at(module, stack, run, last_step)
        except NotComparable as reason:
            reasons.append(str(reason))
            continue
        if wrong:
            return f"{stack.site.name}: {wrong}"
        compared += 1
    if not compared:
        raise NotComparable(reasons[0])
    return None


def _misplaced_at(module: torch.nn.Module, stack, run: Run, last_step: Run) -> str | None:
    before, length = _states(module, stack, run, last_step, None)
    for position in sorted({0, length // 2, length - 1}):
        after, _ = _states(module, stack, run, last_step, position)
        moved = _moved(after[0], before[0])
        if not moved.any():
            raise NotComparable("its values are not made from these hidden states")
        if (moved.sum(1) != 1).any():
            raise NotComparable("its values mix positions")
        place = before[1].expand(len(moved), -1)[:, position]
        if moved.int().argmax(1).ne(place).any():
            return f"the own position of query {position} is {place.tolist()}, its value {_places(moved)}"
        own = _moved(after[2], before[2])
        if (own.sum(1) != 1).any() or not own[:, position].all():
            return f"the own value of query {position} is that of another position"
    return None


def _states(
    module: torch.nn.Module, stack, run: Run, last_step: Run, position: int | None
) -> tuple[States, int]:
    """Return what the site says of the last step, with the hidden state at `position` moved, and how many
    there are."""
    torch.manual_seed(0)  # some models draw in evaluation too
    with torch.no_grad():
        run()
        Witness.seen.clear()
        with _moved_input(module, stack, position) as lengths:
            last_step()
    if stack.site.name not in Witness.seen:
        raise NotComparable("the batch does not reach it")
    states = Witness.seen[stack.site.name]
    if lengths[0] != (states[2].shape[0], states[2].shape[2]):
        raise NotComparable("its queries are not one for each hidden state")
    return states, lengths[0][1]


@contextmanager
def _moved_input(module: torch.nn.Module, stack, position: int | None) -> Iterator[list[tuple[int, int]]]:
    """Add noise to one position of the states that a site's queries are made from, in its first call."""
    name = stack.site.query_input
    shapes: list[tuple[int, int]] = []

    def move(_: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        is_first, at = not shapes, stack.positions.get(name)
        states = kwargs[name] if name in kwargs else args[at]
        shapes.append(tuple(states.shape[:2]))
        if position is None or not is_first:
            return None
        states = states.clone()
        noise = torch.randn(states.shape[-1], generator=torch.Generator().manual_seed(4))
        states[:, position] += noise.to(states)
        if name in kwargs:
            return args, kwargs | {name: states}
        return (*args[:at], states, *args[at + 1 :]), kwargs

    handle = module.register_forward_pre_hook(move, with_kwargs=True)
    try:
        yield shapes
    finally:
        handle.remove()


def _moved(after: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Return which positions of values differ, (batch, len)."""
    return (after != before).any(3).any(1)


def _places(moved: torch.Tensor) -> list[int]:
    return moved.int().argmax(1).tolist()
