"""The intervals of a sequential comparison as text: one line for each look."""

from __future__ import annotations

from pipelines.report import format as fmt
from pipelines.report.data import Row

WIDTH = 41  # characters of the axis


def lines(row: Row) -> list[str]:
    """Return one line per look, on an axis with a mark at 0; none for a fixed design."""
    seen = [(look, ends) for look in row.looks or () if (ends := fmt.bounds(look.interval))]
    if not seen:
        return []
    reach = [0.0, *(end for _, ends in seen[-1:] for end in ends), *(look.difference for look, _ in seen)]
    room = 0.6 * (max(reach) - min(reach)) or 1.0
    low, high = min(reach) - room, max(reach) + room

    def place(value: float) -> int:
        return round((min(max(value, low), high) - low) / (high - low) * (WIDTH - 1))

    drawn = [f"{row.arm} on {row.cell}, {row.metric} in {row.unit}, after each seed:"]
    for look, (left, right) in seen:
        axis = [" "] * WIDTH
        for column in range(place(left), place(right) + 1):
            axis[column] = "─"
        axis[place(0.0)] = "│"
        axis[place(look.difference)] = "●"
        numbers = f"{fmt.signed(look.difference, row.places)} {fmt.interval((left, right), row.places)}"
        drawn.append(f"  {look.seeds:>3} seeds {''.join(axis)} {numbers}")
    return drawn
