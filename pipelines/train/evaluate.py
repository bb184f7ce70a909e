"""Predict and score a split: one prediction per example, for any batch size and number of processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from custom_attention.kernels.visible import without_hidden_keys
from custom_attention.modes import quiet
from pipelines.data.features import Features
from pipelines.distributed.transfer import to_device
from pipelines.metrics.base import Metric, StatisticsTable, total
from pipelines.tasks.base import Example, Raw, Task
from pipelines.train.batches import fill, overhead_of_batch
from pipelines.train.speed.unpadding import Unpadding


@dataclass(frozen=True)
class Evaluation:
    """The predictions of a split, in example order, with their per-example metric statistics."""

    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    predictions: tuple[Any, ...]
    references: tuple[Any, ...]
    metrics: Mapping[str, Metric]
    statistics: Mapping[str, StatisticsTable]  # by metric
    loss: float | None  # sum of target losses / number of targets; None where the task gives no losses
    seconds: float

    @property
    def scores(self) -> dict[str, float]:
        """The score of every metric on the whole split."""
        return {
            name: float(metric.score(total(self.statistics[name]))) for name, metric in self.metrics.items()
        }


@torch.no_grad()
def evaluate(
    accelerator: Accelerator,
    model: torch.nn.Module,
    task: Task,
    examples: Sequence[Example],
    features: Features,
    *,
    max_tokens: int,
    unpadding: Unpadding | None,
    tune: bool = False,
    tick: Callable[[int], None] = lambda num_features: None,
) -> Evaluation:
    """Predict every example once and score the predictions.

    Features are batched by length, shared among the ranks, gathered, put back in order and assembled by
    example id.

    Args:
        max_tokens: padded tokens of a batch.
        unpadding: of the model; None computes padding.
        tune: let the task choose its thresholds from these rows before they are scored; validation only.
        tick: called after each batch with its number of features; it may raise to stop.

    Raises:
        RuntimeError: a feature has two results or none, which is a bug in attnlab.
    """
    started = time.perf_counter()
    bare = accelerator.unwrap_model(model)
    with quiet(bare):
        raws = predict_features(accelerator, bare, task, features, max_tokens, unpadding, tick)
    groups = by_example(examples, features, raws)
    if tune:
        task.tune(examples, groups)
    predictions = tuple(task.assemble(example, group) for example, group in zip(examples, groups))
    references = tuple(task.reference(example) for example in examples)
    metrics = dict(task.metrics)
    statistics = {name: metric.table(predictions, references) for name, metric in metrics.items()}
    return Evaluation(
        ids=tuple(example["id"] for example in examples),
        clusters=tuple(task.cluster(example) for example in examples),
        predictions=predictions,
        references=references,
        metrics=metrics,
        statistics=statistics,
        loss=_mean_loss(features, raws),
        seconds=time.perf_counter() - started,
    )


def predict_features(
    accelerator: Accelerator,
    model: torch.nn.Module,
    task: Task,
    features: Features,
    max_tokens: int,
    unpadding: Unpadding | None,
    tick: Callable[[int], None] = lambda num_features: None,
) -> list[Raw]:
    """Return one raw result per feature, in feature order, on every rank.

    Raises:
        RuntimeError: a feature has two results or none, which is a bug in attnlab.
    """
    overhead = overhead_of_batch(task.evaluation_overhead, accelerator.device.type == "cpu")
    batches = fill(features.lengths, max_tokens, overhead, accelerator.num_processes)
    mine: list[tuple[int, Raw]] = []  # of this rank: feature index and result
    for batch in batches[accelerator.process_index :: accelerator.num_processes]:
        # A rank without features still runs a forward: sharded models communicate in each one.
        collated, device = task.collate([features[index] for index in batch or (0,)]), accelerator.device
        skipping = unpadding.skip_in_one_forward(collated, device) if unpadding else nullcontext()
        inputs = to_device(collated, device)
        with accelerator.autocast(), skipping, without_hidden_keys(model):
            raws = task.predict(model, inputs)
        mine += zip(batch, raws)
        tick(len(batch))
    found: list[tuple[int, Raw]] = gather_object(mine) if accelerator.num_processes > 1 else mine
    by_index = dict(found)
    if len(found) != len(features) or len(by_index) != len(features):
        raise RuntimeError(
            f"{len(features)} features gave {len(found)} results, {len(by_index)} of them distinct"
        )
    return [by_index[index] for index in range(len(features))]


def by_example(examples: Sequence[Example], features: Features, raws: Sequence[Raw]) -> list[list[Raw]]:
    """Group raw results by example, in example order.

    Raises:
        RuntimeError: an example has no feature, or two examples have the same id.
    """
    groups: dict[str, list[Raw]] = {example["id"]: [] for example in examples}
    for index, raw in zip(features.example_index, raws):
        groups[examples[index]["id"]].append(raw)
    missing = [name for name, group in groups.items() if not group]
    if missing or len(groups) != len(examples):
        raise RuntimeError(f"examples without a feature or with one id twice: {missing[:3]}")
    return list(groups.values())


def _mean_loss(features: Features, raws: Sequence[Raw]) -> float | None:
    if not all("loss" in raw for raw in raws):
        return None
    return float(sum(raw["loss"] for raw in raws) / max(1, features.num_targets.sum()))
