"""What attnlab claims of a GPU, one sentence each, with the figure that decides it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from scripts.gpu_check.jobs import JOBS

Measured = Mapping[str, Mapping[str, Any]]  # of each part


class Claim(NamedTuple):
    """A sentence with its bound.

    Attributes:
        figure: returns None where it was not measured.
        of_speed: a rehearsal with tiny models says nothing of it.
    """

    sentence: str
    figure: Callable[[Measured], float | None]
    holds: Callable[[float], bool]
    of_speed: bool = True


class Verdict(NamedTuple):
    sentence: str
    figure: float | None
    word: str  # "holds", "does NOT hold", "not measured" or "rehearsed"


def _of(part: str, *path: str) -> Callable[[Measured], float | None]:
    """Return a reader of one figure of a part."""

    def read(measured: Measured) -> float | None:
        value: Any = measured.get(part, {})
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value is None else float(value)

    return read


def _most_waits(measured: Measured) -> float | None:
    waits = measured.get("waits for the GPU", {}).get("waits")
    return max(waits.values()) if waits else None


def _dearest(names: tuple[str, ...]) -> Callable[[Measured], float | None]:
    """Return a reader of the largest cost of some variants in any case, in torch's own order of kernels."""

    def read(measured: Measured) -> float | None:
        cases = measured.get("variants", {}).get("over_stock", {})
        costs = [
            found[name]["time"]
            for case, found in cases.items()
            if case.endswith("torch's order")
            for name in names
            if name in found
        ]
        return max(costs) if costs else None

    return read


def _training_claims(name: str, share: float) -> list[Claim]:
    part = f"training: {name}"
    return [
        Claim(
            f"{name}: trains at {share:.0%} or more of the card's stated peak, padding not counted",
            _of(part, "mfu"),
            partial(operator.le, share),
        ),
        Claim(
            f"{name}: not slower than transformers' Trainer, in useful tokens",
            _of(part, "over_trainer"),
            lambda value: value >= 1.0,
        ),
    ]


CLAIMS = (
    *(one for job in JOBS if job.peak_share for one in _training_claims(job.name, job.peak_share)),
    Claim(
        "float32 gives the CPU's outputs and gradients to 1e-4 of the largest value, for every variant",
        _of("equality with the CPU", "largest"),
        lambda value: value <= 1e-4,
        of_speed=False,
    ),
    Claim(
        "deterministic: true gives the same bits twice",
        _of("deterministic kernels", "deterministic_bits_equal"),
        lambda value: value == 1,
        of_speed=False,
    ),
    Claim(
        "deterministic: true costs at most a quarter of the time",
        _of("deterministic kernels", "cost"),
        lambda value: value <= 1.25,
    ),
    Claim(
        "a run that was stopped and resumed ends with the same bits (deterministic: true)",
        _of("stop and resume", "bits_equal"),
        lambda value: value == 1,
        of_speed=False,
    ),
    Claim("a step never waits for the GPU", _most_waits, lambda value: value == 0, of_speed=False),
    Claim(
        "two runs that share the card do at least as much as one alone",
        _of("runs that share the card", "over_one", "2"),
        lambda value: value >= 1.0,
    ),
    Claim(
        "five seeds of a small T5 as one stacked model take at most two thirds of their time one by one",
        _of("seeds together", "gain", "T5 of 9 M, batch 4 x 14"),
        lambda value: value >= 1.5,
    ),
    Claim(
        "temperature costs at most 1.02 of stock attention",
        _dearest(("temperature",)),
        lambda value: value <= 1.02,
    ),
    Claim(
        "gates and value residual cost at most 1.06 of stock attention",
        _dearest(("gate", "hidden_gate", "value_residual")),
        lambda value: value <= 1.06,
    ),
)


def judge(measured: Measured, *, is_tiny: bool) -> list[Verdict]:
    """Return the verdict on every claim; a rehearsal decides none of speed."""
    return [_verdict(claim, claim.figure(measured), is_tiny) for claim in CLAIMS]


def _verdict(claim: Claim, figure: float | None, is_tiny: bool) -> Verdict:
    if figure is None:
        word = "not measured"
    elif is_tiny and claim.of_speed:
        word = "rehearsed"
    else:
        word = "holds" if claim.holds(figure) else "does NOT hold"
    return Verdict(claim.sentence, figure, word)
