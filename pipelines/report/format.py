"""Numbers as text, with as many decimals as their standard error supports."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import TypeGuard

from pipelines.shown import plural as plural  # one of the formats of a report

MISSING = "–"


def known(value: object) -> TypeGuard[float]:
    """Return whether `value` is a finite number (a diverged run leaves None, NaN or infinity behind)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def finite(values: Iterable[float | None]) -> list[float]:
    """Return the finite numbers among `values`."""
    return [value for value in values if known(value)]


def bounds(interval: Sequence[float | None] | None) -> tuple[float, float] | None:
    """Return both ends of an interval; None where one is not a finite number."""
    ends = finite(interval or ())
    return (ends[0], ends[1]) if len(ends) == 2 else None


def decimals(se: float | None, margin: float | None = None) -> int:
    """Return the decimals that show two significant digits of a standard error; 2 where there is none.

    Never more than a thousandth of `margin` needs: a smaller difference does not matter.
    """
    if not known(se) or se <= 0:
        return 2
    finest = int(3 - math.log10(margin)) if known(margin) and margin > 0 else 6
    return max(0, min(finest, 1 - math.floor(math.log10(se))))


def number(value: float | None, places: int = 2) -> str:
    """Return `-0.034` with 2 places as "−0.03"; a value that rounds to zero has no sign."""
    if not known(value):
        return MISSING
    text = f"{abs(value):.{places}f}"
    return f"−{text}" if value < 0 and float(text) else text


def signed(value: float | None, places: int = 2) -> str:
    """Return the number with a plus sign where it is positive."""
    text = number(value, places)
    return f"+{text}" if known(value) and value > 0 and float(text) else text


def interval(ends: Sequence[float | None] | None, places: int = 2) -> str:
    """Return "[+0.21, +1.45]", or a dash where there is no interval."""
    both = bounds(ends)
    return f"[{signed(both[0], places)}, {signed(both[1], places)}]" if both else MISSING


def p_value(p: float | None) -> str:
    """Return p with three decimals, or "<0.001"."""
    if not known(p):
        return MISSING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the finite values, None if there are none."""
    numbers = finite(values)
    return statistics.fmean(numbers) if numbers else None


def mean_sd(values: Sequence[float | None]) -> str:
    """Return "57.21 ± 0.43": mean and sample standard deviation over seeds; one seed has no deviation."""
    numbers = finite(values)
    if len(numbers) < 2:
        return number(mean(numbers))
    sd = statistics.stdev(numbers)
    return f"{number(mean(numbers), decimals(sd))} ± {number(sd, decimals(sd))}"


def percent_change(ratio: float | None) -> str:
    """Return the ratio 1.043 as "+4 %"."""
    return f"{signed((ratio - 1) * 100, 0)} %" if known(ratio) else MISSING


def count(value: int | None) -> str:
    """Return a count with separated thousands: "1,287"."""
    return f"{value:,}" if known(value) else MISSING


def small(value: float | None) -> str:
    """Return a small number with two significant digits, such as "5.5e-07"; zero is "0.0"."""
    if not known(value):
        return MISSING
    return "0.0" if value == 0 else f"{value:.1e}"


def listing(words: Sequence[str]) -> str:
    """Return words as a list in a sentence: "a", "a and b", "a, b and c"."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
