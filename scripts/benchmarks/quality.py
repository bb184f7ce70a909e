"""Loss on held-out examples after equally many updates: attnlab's loop and transformers' Trainer by seed.

Both start from the weights of the seed and take the examples of each step from its batch plan, so that a pair
differs in what is compared alone: padding and how steps are cut, kernels, gradients by rows, and the numbers
that dropout draws. No time is measured: both train at once, a thread each.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from pipelines.train.batches import fill
from pipelines.train.loop import Training
from scripts.benchmarks import ours, reference
from scripts.benchmarks.cases import Case, cases, watched
from scripts.benchmarks.table import Table, with_range

SEEDS = (1, 2, 3, 4, 5)
CONFIDENCE = 0.95
MAX_TOKENS = 4096  # padded tokens of a batch of the evaluation


def run() -> Table:
    rows, records, all_met = [], [], True
    processes = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=processes, max_tasks_per_child=1) as pool:
        for case in watched(cases()):
            trained = pool.map(our_loss, repeat(case, len(SEEDS)), SEEDS)
            by_trainer = list(pool.map(reference_loss, repeat(case, len(SEEDS)), SEEDS))
            row, record = _compared(case, list(trained), by_trainer)
            print(*row, sep=" | ", file=sys.stderr, flush=True)  # printed at once: a later case may fail
            rows.append(row)
            records.append(record)
            all_met = all_met and record["low"] <= 0
    columns = ("what", "updates", "loss, ours", "loss, reference", "difference (95 %)", "ours is not worse")
    return Table(columns, rows, records, all_met)


def our_loss(case: Case, seed: int) -> float:
    """Return the held-out loss after `case.num_updates` steps of attnlab."""

    def train(run: Training, _: Path) -> torch.nn.Module:
        ours.take_steps(run, 0, case.num_updates)
        return run.model

    return _loss_after(case, seed, train, sets_up_libraries=True)


def reference_loss(case: Case, seed: int) -> float:
    """Return the loss after as many steps of Trainer, with the same examples and its own padding."""

    def train(run: Training, folder: Path) -> torch.nn.Module:
        model, config = reference.plain_model(run), run.config
        items = reference.items_of(run.task, run.train.features)

        def collate(steps: Any) -> reference.Item:  # one item is a step: a list of examples
            return reference.padded(steps[0], case.pad_to)

        trainer = reference.trainer_of(
            model,
            folder,
            collate,
            {
                "max_steps": case.num_updates,
                "per_device_train_batch_size": 1,  # one item is a step
                "train_sampling_strategy": "sequential",
                "seed": seed,
                "learning_rate": config.learning_rate,
                "lr_scheduler_type": config.schedule,
                "warmup_steps": round(config.warmup_ratio * case.num_updates),
                "weight_decay": config.weight_decay,
                "max_grad_norm": config.max_grad_norm,
            },
        )
        trainer.train_dataset = [
            [items[index] for batch in run.plan.step(number).micro_batches[0] for index in batch]
            for number in range(case.num_updates)
        ]
        trainer.train()
        return model

    return _loss_after(case, seed, train, sets_up_libraries=False)


def _loss_after(
    case: Case, seed: int, train: Callable[[Training, Path], torch.nn.Module], *, sets_up_libraries: bool
) -> float:
    settings = [f"seed={seed}", f"max_steps={case.num_updates}"]
    settings += [f"batch_size={case.updates_of}"] if case.updates_of else []
    with tempfile.TemporaryDirectory() as name:
        changed = replace(case, overrides=(*case.overrides, *settings))
        run = ours.build(changed, Path(name), sets_up_libraries=sets_up_libraries)
        model = train(run, Path(name)).eval()
    assert run.validation is not None
    task, features = run.task, run.validation.features
    with torch.no_grad():
        losses = [
            float(task.loss(model, task.collate([features[index] for index in batch])))
            for batch in fill(features.lengths, MAX_TOKENS, task.evaluation_overhead)
        ]
    return sum(losses) / int(features.num_targets.sum())


def _compared(case: Case, trained: Sequence[float], by_trainer: Sequence[float]) -> tuple[list[str], dict]:
    """Return a row of the table: Student's t over the differences of the seeds."""
    differences = [one - other for one, other in zip(trained, by_trainer, strict=True)]
    middle = statistics.mean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    half = error * float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1))
    low, high = middle - half, middle + half
    row = [case.name, f"{case.num_updates}", with_range(trained), with_range(by_trainer)]
    row += [f"{middle:+.4f} [{low:+.4f}, {high:+.4f}]", "yes" if low <= 0 else "NO"]
    facts = {"what": case.name, "num_updates": case.num_updates, "seeds": SEEDS, "low": low, "high": high}
    return row, facts | {"ours": list(trained), "reference": list(by_trainer)}
