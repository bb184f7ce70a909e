"""How numbers are written: as many decimals as their standard error deserves, and no more."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

MISSING = "–"


def known(value: object) -> bool:
    """Whether `value` is a finite number (a diverged run leaves None, NaN or infinity behind)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def decimals(se: float | None, margin: float | None = None) -> int:
    """Decimals that show two significant digits of a standard error; 2 where there is none.

    Nothing below a thousandth of `margin`, which is far below what would matter.
    """
    if not known(se) or se <= 0:
        return 2
    finest = int(3 - math.log10(margin)) if known(margin) and margin > 0 else 6
    return max(0, min(finest, 1 - math.floor(math.log10(se))))


def number(value: float | None, places: int = 2) -> str:
    """`-0.034` with 2 places is "−0.03"; what rounds to zero carries no sign."""
    if not known(value):
        return MISSING
    text = f"{abs(value):.{places}f}"
    return f"−{text}" if value < 0 and float(text) else text


def signed(value: float | None, places: int = 2) -> str:
    """As `number`, with a plus in front of gains."""
    text = number(value, places)
    return f"+{text}" if known(value) and value > 0 and float(text) else text


def interval(bounds: Sequence[float | None] | None, places: int = 2) -> str:
    """`[+0.21, +1.45]`, or a dash when there is no interval."""
    if not bounds or not all(known(bound) for bound in bounds):
        return MISSING
    return f"[{signed(bounds[0], places)}, {signed(bounds[1], places)}]"


def p_value(p: float | None) -> str:
    if not known(p):
        return MISSING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the finite values, None if there are none."""
    finite = [value for value in values if known(value)]
    return statistics.fmean(finite) if finite else None


def mean_sd(values: Sequence[float | None]) -> str:
    """`57.21 ± 0.43`: mean and sample standard deviation over seeds; one seed has no deviation."""
    finite = [value for value in values if known(value)]
    if len(finite) < 2:
        return number(mean(finite))
    sd = statistics.stdev(finite)
    return f"{number(mean(finite), decimals(sd))} ± {number(sd, decimals(sd))}"


def percent_change(ratio: float | None) -> str:
    """A ratio 1.043 as "+4 %"."""
    return f"{signed((ratio - 1) * 100, 0)} %" if known(ratio) else MISSING


def count(value: int | None) -> str:
    """Thousands set apart: "1,287"."""
    return f"{value:,}" if known(value) else MISSING


def small(value: float | None) -> str:
    """Figures of proofs: 0 stays "0.0", others keep two significant digits."""
    if not known(value):
        return MISSING
    return "0.0" if value == 0 else f"{value:.1e}"


def plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def listing(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
