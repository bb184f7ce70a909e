"""`attnlab ablate --dry-run`: print the runs of the grid and their estimated cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipelines.ablation.cell import Cell, Executor
from pipelines.ablation.cost import Cost, costs, duration, size
from pipelines.config.load import AblationConfig
from pipelines.shown import printable
from pipelines.storage.run_folder import RunFolder
from pipelines.terminal import Terminal

# The best and the two newest checkpoints, each with two moments beside the weights, and the final weights.
WEIGHTS_DURING_RUN = 3 * 3 + 1


def print_plan(
    cells: Sequence[Cell],
    config: AblationConfig,
    place: Executor,
    terminal: Terminal,
    earlier: Sequence[Cell] = (),
) -> None:
    """Print every run with its hash, its status and, if it is to run, its estimated time; then the price."""
    estimates = costs(cells, earlier)
    missing = []
    for cell in cells:
        manifest = RunFolder(cell.folder).manifest()
        status, time = manifest["status"] if manifest else "to run", ""
        if manifest is None:
            missing.append(cell)
            known = estimates.get(cell)
            time = f"  about {duration(known.seconds)}" if known else "  time unknown"
        line = printable(f"{cell.folder.name}  {status:9}  {cell.label}{time}", keep="")
        terminal.say(line)
    counted = f"{len(cells)} runs, {len(missing)} to run"
    for sentence in (counted, *_totals(missing, estimates, config, place.at_a_time)):
        terminal.say(sentence)
    for sentence in place.price(missing, {cell: cost.seconds for cell, cost in estimates.items()}):
        terminal.say(sentence)


def _totals(
    missing: Sequence[Cell],
    estimates: Mapping[Cell, Cost],
    config: AblationConfig,
    at_a_time: int | None,
) -> Iterator[str]:
    """Describe the time and disk space of the runs still to be done."""
    if not missing:
        return
    known = [estimates[cell] for cell in missing if cell in estimates]
    unknown = len(missing) - len(known)
    side_by_side = min(at_a_time or len(missing), len(missing))
    if known:
        seconds = sum(cost.seconds for cost in known)
        yield f"time: about {duration(seconds / side_by_side)}, {side_by_side} at a time"
        kept = {"model": 1.0, "best_seed": 1 / len(config.seeds), "none": 0.0}[config.keep]
        results = sum(cost.result_bytes for cost in known)
        weights = sum(cost.weight_bytes for cost in known) * kept
        during = side_by_side * max(cost.weight_bytes for cost in known) * WEIGHTS_DURING_RUN
        yield (
            f"disk: about {size(results + weights)} more when all runs are done (keep: {config.keep}), "
            f"and up to {size(during)} of checkpoints during the runs"
        )
    if unknown:
        subject = "the rest is" if known else "time and disk are"
        yield f"{subject} unknown for {unknown} runs: none of their cells has a finished run yet"
