"""attnlab's side of a benchmark: a run as `attnlab train` prepares it, and the parts that are measured."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from pipelines.config.load import RunConfig, load_run
from pipelines.distributed.stop import StopRequest
from pipelines.runs.prepare import prepare, set_up_libraries
from pipelines.storage.run_folder import RunFolder
from pipelines.train.loop import Training
from pipelines.train.progress import Reporter
from scripts.benchmarks.cases import Case
from scripts.benchmarks.turns import Turn


def build(case: Case, folder: Path, *, sets_up_libraries: bool = True) -> Training:
    """Return a run that is ready for its first step.

    Args:
        sets_up_libraries: False leaves the process as Python and torch start it. A run of attnlab tells the C
            library to keep freed memory, which would make the reference faster, too.
    """
    config = load_run(*case.settings())
    if sets_up_libraries:
        set_up_libraries(config)
    return ready(config, folder)


def ready(config: RunConfig, folder: Path) -> Training:
    """Return the run of a configuration, ready for its first step; its files are put into `folder`."""
    torch.set_num_threads(config.threads)
    run = RunFolder(folder / "run")
    run.path.mkdir(parents=True, exist_ok=True)
    return prepare(config, folder / "cache", run, StopRequest(), Reporter(enabled=False)).training


def take_steps(training: Training, first: int, count: int) -> tuple[int, float]:
    """Take steps `first`, `first + 1`, ... and return their useful tokens and CPU seconds."""
    training.engine.model.train()
    begun, tokens = time.process_time(), 0
    for number in range(first, first + count):
        step = training.plan.step(number)
        training.engine.take_step(step)
        tokens += sum(int(training.train.features.lengths[i]) for b in step.micro_batches[0] for i in b)
    return tokens, time.process_time() - begun


def training(case: Case, folder: Path) -> Turn:
    """Return a turn of `case.num_steps` steps: useful tokens per CPU second."""
    run = build(case, folder)
    take_steps(run, 0, 1)  # warm-up

    def turn(number: int) -> float:
        tokens, seconds = take_steps(run, 1 + number * case.num_steps, case.num_steps)
        return tokens / seconds

    return turn


def evaluation(case: Case, folder: Path) -> Turn:
    """Return a turn that predicts and scores the validation split: examples per CPU second."""
    run = build(case, folder)
    validation = run.validation
    assert validation is not None
    run.reporter = Reporter(enabled=False)

    def turn(_: int) -> float:
        begun = time.process_time()
        run.score("validation", validation)
        return len(validation.examples) / (time.process_time() - begun)

    return turn
