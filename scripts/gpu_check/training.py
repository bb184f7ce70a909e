"""Tokens per second, share of the card's peak and memory: attnlab's loop and `Trainer` in turns."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from pipelines.config.load import RunConfig
from pipelines.models import flops
from pipelines.runs.prepare import set_up_libraries
from pipelines.train.loop import Training
from scripts.benchmarks import ours, reference
from scripts.gpu_check.card import peak_flops
from scripts.gpu_check.jobs import Job, job
from scripts.gpu_check.scale import Scale

SAMPLE = 4  # features by which operations per token are counted
BACKWARD = 2  # operations of a backward, over those of its forward


def measure(name: str, scale: Scale) -> dict[str, Any]:
    """Measure one job; rates are of useful tokens: padding is none, and T5's targets are counted too."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(job(name, scale), scale, Path(folder))


def _measure(chosen: Job, scale: Scale, folder: Path) -> dict[str, Any]:
    config = chosen.settings(folder, scale)
    before = _allocated(scale)
    run = build(config, folder)
    rates, mine = _in_turns(lambda number: our_turn(run, scale, number), scale, before)
    held = _allocated(scale)
    model = reference.plain_model(run)
    items = reference.items_of(run.task, run.train.features)
    trainer_rates, theirs = _in_turns(
        lambda number: _trainer_turn(model, items, config, scale, folder, number), scale, held
    )
    for number in range(1, scale.turns):
        rates.append(our_turn(run, scale, number))
        trainer_rates.append(_trainer_turn(model, items, config, scale, folder, number))
    per_token = _flops_per_token(run)
    peak = peak_flops(scale)
    return {
        "tokens_per_second": rates,
        "trainer_tokens_per_second": trainer_rates,
        "over_trainer": statistics.median(a / b for a, b in zip(rates, trainer_rates)),
        "flops_per_token": per_token,
        "mfu": None if peak is None else statistics.median(rates) * per_token / peak,
        "peak_gib": mine,
        "trainer_peak_gib": theirs,
        "parameters": sum(p.numel() for p in run.model.parameters()),
    }


def build(config: RunConfig, folder: Path) -> Training:
    """Return a run that is ready for its first step, in a process that is set up as for a run."""
    set_up_libraries(config)
    return ours.ready(config, folder)


def our_turn(run: Training, scale: Scale, number: int) -> float:
    """Take the steps of one turn as the loop does; return useful tokens per second.

    The first step of a turn is a warm-up and not counted.
    """
    run.engine.model.train()
    first = number * (scale.steps + 1)
    run.engine.take_step(run.plan.step(first))
    scale.wait()
    begun, tokens = time.perf_counter(), 0
    for step in map(run.plan.step, range(first + 1, first + 1 + scale.steps)):
        run.engine.take_step(step)
        tokens += sum(_useful(run, index) for batch in step.micro_batches[0] for index in batch)
    scale.wait()
    return tokens / (time.perf_counter() - begun)


def _useful(run: Training, index: int) -> int:
    return int(run.train.features.lengths[index])


class _Clock(TrainerCallback):
    """Notes when the warm-up step and the last step end."""

    def __init__(self, scale: Scale) -> None:
        self.scale, self.ticks = scale, dict[int, float]()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in (1, self.scale.steps + 1):
            self.scale.wait()
            self.ticks[state.global_step] = time.perf_counter()


def _trainer_turn(
    model: torch.nn.Module,
    items: list[reference.Item],
    config: RunConfig,
    scale: Scale,
    folder: Path,
    number: int,
) -> float:
    seen: list[int] = []

    def collate(chosen: Any) -> reference.Item:
        batch = reference.padded(chosen, None)
        seen.append(reference.useful_tokens(batch, counts_labels=config.model.family == "encoder_decoder"))
        return batch

    options = {
        "max_steps": scale.steps + 1,
        "seed": number,
        "per_device_train_batch_size": config.batch_size,
        "use_cpu": scale.is_tiny,
        "bf16": config.precision == "bfloat16",
    }
    clock = _Clock(scale)
    trainer = reference.trainer_of(model, folder, collate, options)
    trainer.train_dataset = items
    trainer.add_callback(clock)
    trainer.train()
    return sum(seen[1 : scale.steps + 1]) / (clock.ticks[scale.steps + 1] - clock.ticks[1])


def _in_turns(turn: Callable[[int], float], scale: Scale, before: int) -> tuple[list[float], float | None]:
    """Take the first turn of one side; return its rate, and its peak memory in GiB besides `before`."""
    if scale.device.type != "cuda":
        return [turn(0)], None
    torch.cuda.reset_peak_memory_stats()
    rate = turn(0)
    return [rate], (torch.cuda.max_memory_allocated() - before) / 2**30


def _allocated(scale: Scale) -> int:
    return torch.cuda.memory_allocated() if scale.device.type == "cuda" else 0


def _flops_per_token(run: Training) -> float:
    """Return the operations of matrix products in training, per useful token; no padding is counted."""
    operations = tokens = 0
    for index in range(min(SAMPLE, len(run.train.features))):
        batch = run.task.collate([run.train.features[index]])
        operations += flops.of_forward(run.model, batch)
        tokens += _useful(run, index)
    return (1 + BACKWARD) * operations / tokens
