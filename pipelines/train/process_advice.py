"""Several processes for one run: what they change in a step, and what they are worth by its own measure."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from accelerate.utils import gather_object

from pipelines.config.load import RunConfig
from pipelines.train.batches import BatchPlan
from pipelines.train.engine import Engine
from pipelines.train.state import TrainState

AFTER_STEP = 10  # of the run: by then libraries have chosen their kernels
REPETITIONS = 5  # the fastest counts: others on the machine only slow down
NEARLY_LINEAR = 0.8  # share of what as many processes could do at best
MOST_STEPS = 20  # that micro-batches are counted over


def shared_batch(config: RunConfig, plan: BatchPlan) -> str:
    """What several processes change in a step, and what they leave as it is."""
    idle = ", some of which have nothing to do" if config.batch_size < config.processes else ""
    several, one = _micro_batches(plan), _micro_batches(plan.for_ranks(1))
    return (
        f"a step stays at {config.batch_size} examples over all {config.processes} processes{idle}; "
        f"accumulation goes from {one:.3g} micro-batches (at most {config.max_tokens} tokens) on one process "
        f"to {several:.3g} on each; gradient, learning rate and number of steps are those of one process"
    )


def _micro_batches(plan: BatchPlan) -> float:
    """Micro-batches of a step on one rank, on average."""
    steps = range(min(MOST_STEPS, plan.steps_per_epoch))
    return statistics.fmean(len(plan.step(number).micro_batches[0]) for number in steps)


def advice(engine: Engine, state: TrainState) -> str:
    """What the processes of this run are worth, by the forward and backward of its next step.

    The step is taken as it is shared, gradients exchanged, and in turns by every rank alone and whole, as
    runs side by side would. The gradients are thrown away, and dropout follows from the step; so a run that
    measures ends in the bits of one that does not. On a CPU this flatters the processes: a run in one takes
    the gradients of large embedding tables by rows (`speed/embedding_gradients.py`), which copies cannot.
    """
    step = engine.plan.step(state.step)
    rank, count = engine.accelerator.process_index, engine.accelerator.num_processes
    whole = engine.plan.for_ranks(1).step(step.number).micro_batches[0]
    shared, alone = [], []
    for _ in range(REPETITIONS):
        shared.append(_seconds(engine, step.number, step.micro_batches[rank], exchange=True))
        alone.append(_seconds(engine, step.number, whole, exchange=False))
    by_rank = gather_object([(min(shared), min(alone))])
    examples_per_second = state.step * engine.config.batch_size / state.train_seconds
    return sentence(count, examples_per_second, *map(max, zip(*by_rank, strict=True)))


def _seconds(engine: Engine, number: int, batches: Sequence[tuple[int, ...]], *, exchange: bool) -> float:
    """Wall time of a step's forward and backward; every rank begins at once."""
    device = engine.accelerator.device
    engine.accelerator.wait_for_everyone()
    begun = time.perf_counter()
    engine.accumulate(number, batches, 1.0, exchange=exchange)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    engine.optimizer.zero_grad()
    return time.perf_counter() - begun


def sentence(processes: int, examples_per_second: float, shared: float, alone: float) -> str:
    """The advice, from the seconds of a step on all processes and on one."""
    speed = alone / shared
    measured = (
        f"{examples_per_second:.3g} examples per second so far; forward and backward of a step take "
        f"{shared:.3g} s on {processes} processes and {alone:.3g} s on one: {speed:.2g} times as fast, where "
        f"linear is {processes}"
    )
    if speed >= NEARLY_LINEAR * processes:
        return f"{measured}; more processes may pay"
    return (
        f"{measured}; {processes} runs side by side would do {processes / speed:.2g} times the work, so give "
        "a grid one process per run; a larger batch_size has more to compute for one exchange of gradients, "
        "but is another run, and usually wants a learning rate that grows with it"
    )
