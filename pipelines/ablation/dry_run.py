"""`attnlab ablate --dry-run`: print the runs of the grid and what they are expected to cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from pipelines.ablation import cost as estimate
from pipelines.ablation.cell import Cell
from pipelines.config.load import AblationConfig
from pipelines.storage.run_folder import RunFolder


def print_plan(
    cells: Sequence[Cell],
    config: AblationConfig,
    at_a_time: int | None,
    console: Console,
    earlier: Sequence[Cell] = (),
) -> None:
    """Every run with its hash, whether it is there, and what it will take as far as finished runs tell."""
    costs = estimate.costs(cells, earlier)
    missing = []
    for cell in cells:
        manifest = RunFolder(cell.folder).manifest()
        state, taking = manifest["status"] if manifest else "to run", ""
        if manifest is None:
            missing.append(cell)
            seconds = costs[cell].seconds
            taking = f"  about {estimate.duration(seconds)}" if seconds is not None else "  time unknown"
        console.print(f"{cell.folder.name}  {state:9}  {cell.label}{taking}", markup=False, soft_wrap=True)
    say = f"{len(cells)} runs, {len(missing)} to run"
    for sentence in (say, *_totals(missing, costs, config, at_a_time)):
        console.print(sentence, markup=False, soft_wrap=True)


def _totals(
    missing: Sequence[Cell],
    costs: Mapping[Cell, estimate.Cost],
    config: AblationConfig,
    at_a_time: int | None,
) -> Iterator[str]:
    """Time and disk of what is still to be run, as sentences."""
    if not missing:
        return
    known = [costs[cell] for cell in missing if costs[cell].seconds is not None]
    unknown = len(missing) - len(known)
    beside = min(at_a_time or len(missing), len(missing))
    if known:
        seconds = sum(cost.seconds for cost in known)
        yield f"time: about {estimate.duration(seconds / beside)}, {beside} at a time"
        kept = {"model": 1.0, "best_seed": 1 / len(config.seeds), "none": 0.0}[config.keep]
        results = sum(cost.result_bytes for cost in known)
        weights = sum(cost.weight_bytes for cost in known) * kept
        at_work = beside * max(cost.weight_bytes for cost in known) * WEIGHTS_AT_WORK
        yield (
            f"disk: about {estimate.size(results + weights)} more when all is done (keep: {config.keep}), "
            f"and up to {estimate.size(at_work)} of checkpoints while they run"
        )
    if unknown:
        subject = "the rest is" if known else "time and disk are"
        yield f"{subject} unknown for {unknown} runs: none of their cells has a finished run yet"


# The best and the two newest checkpoints, each with two moments beside the weights, and the final weights.
WEIGHTS_AT_WORK = 3 * 3 + 1
