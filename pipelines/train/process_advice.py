"""Advice on several processes for one run: what they change in a step, and how much faster they are."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from accelerate.utils import gather_object

from pipelines.config.load import RunConfig
from pipelines.train.batches import BatchPlan, MicroBatch
from pipelines.train.engine import Engine
from pipelines.train.state import TrainState

AFTER_STEP = 10  # when it is measured: by then libraries have chosen their kernels
REPETITIONS = 5  # the fastest one is used: other work on the machine only adds time
NEARLY_LINEAR = 0.8  # share of the linear speed-up that is good enough
MOST_STEPS = 20  # steps over which micro-batches are counted


def shared_batch(config: RunConfig, plan: BatchPlan) -> str:
    """Return a sentence on what several processes change in a step, and what they do not change."""
    idle = ", some of which have nothing to do" if config.batch_size < config.processes else ""
    several, one = _micro_batches(plan), _micro_batches(plan.for_ranks(1))
    return (
        f"a step stays at {config.batch_size} examples over all {config.processes} processes{idle}; "
        f"accumulation goes from {one:.3g} micro-batches (at most {config.max_tokens} tokens) on one process "
        f"to {several:.3g} on each; gradient, learning rate and number of steps are those of one process"
    )


def _micro_batches(plan: BatchPlan) -> float:
    """Return the mean number of micro-batches of a step on one rank."""
    steps = range(min(MOST_STEPS, plan.steps_per_epoch))
    return statistics.fmean(len(plan.step(number).micro_batches[0]) for number in steps)


def advice(engine: Engine, state: TrainState) -> str:
    """Measure the speed-up of this run's processes on forward and backward of its next step.

    Two ways are timed in turns: the step shared by the ranks with gradients exchanged, and the whole step on
    every rank alone, as parallel runs would take it. The gradients are dropped, and dropout depends on the
    step number only, so measuring changes no bit of the run. On a CPU the speed-up is overestimated: a run in
    one process also collects embedding gradients by rows (`speed/embedding_gradients.py`).

    Returns:
        A sentence with the numbers and a recommendation.
    """
    step = engine.plan.step(state.step)
    rank, count = engine.accelerator.process_index, engine.accelerator.num_processes
    whole = engine.plan.for_ranks(1).step(step.number).micro_batches[0]
    shared: list[float] = []  # seconds
    alone: list[float] = []
    for _ in range(REPETITIONS):
        shared.append(_seconds(engine, step.number, step.micro_batches[rank], exchange=True))
        alone.append(_seconds(engine, step.number, whole, exchange=False))
    by_rank = gather_object([(min(shared), min(alone))])
    examples_per_second = state.step * engine.config.batch_size / state.train_seconds
    return sentence(count, examples_per_second, *map(max, zip(*by_rank, strict=True)))


def _seconds(engine: Engine, number: int, batches: Sequence[MicroBatch], *, exchange: bool) -> float:
    """Return the wall time of a step's forward and backward, started on all ranks together."""
    device = engine.accelerator.device
    engine.accelerator.wait_for_everyone()
    started = time.perf_counter()
    engine.accumulate(number, batches, exchange=exchange)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    engine.optimizer.zero_grad()
    return time.perf_counter() - started


def sentence(processes: int, examples_per_second: float, shared: float, alone: float) -> str:
    """Return the advice from the seconds of a step on all processes (`shared`) and on one (`alone`)."""
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
