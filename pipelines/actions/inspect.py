"""`attnlab inspect`: show the inputs of a run's model and the cost of training, without training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

import custom_attention
from pipelines.config.load import RunConfig
from pipelines.data.features import Features, Prepared, two_lengths
from pipelines.data.splits import Splits
from pipelines.distributed import accelerator
from pipelines.models import lora
from pipelines.models.activations import recompute_activations
from pipelines.runs.prepare import (
    build_model_with_attention,
    load_data,
    prepare_features,
    set_up_libraries,
)
from pipelines.tasks.base import Task
from pipelines.tasks.shared.baselines import baseline_scores, metric_notes
from pipelines.train.batches import fill, overhead_of_batch, plan_of
from pipelines.train.speed import unpadding

MOST_STEPS = 500  # steps whose padding is counted
MOST_SCORED = 1000  # examples on which the baselines without a model are scored
MOST_REASONS = 3  # reasons for skipped rows that are shown
# Bytes of a parameter in training: weight, gradient, and AdamW's two moments, float32 each.
TRAINED_BYTES, FROZEN_BYTES = 16, 4


def inspect_command(config: RunConfig, num_examples: int) -> None:
    """Print the data, batches, model and first inputs of a run.

    Raises:
        UserError: the data, the model or the attention cannot be what the configuration asks for.
    """
    set_up_libraries(config)
    task, splits = load_data(config)
    prepared = prepare_features(config, task, splits, cache=None)
    train = prepared["train"].features
    _print("data", _data(splits, prepared))
    _print("without a model", _baselines(task, prepared))
    model, proof = build_model_with_attention(config, task, train)
    padded = task.collate(two_lengths(train))
    skips_padding = unpadding.unpadding_for(model, task, padded) is not None
    _print("batches", _batches(config, task, prepared, skips_padding))
    _print("model", _model(config, task, model, proof, train))
    _print("examples of train", _examples(task, train, num_examples))


def _print(title: str, lines: Iterator[str]) -> None:
    print(title)
    for line in lines:
        print("  " + line.replace("\n", "\n  "), flush=True)


# ---- data
def _data(splits: Splits, prepared: Mapping[str, Prepared]) -> Iterator[str]:
    for name, split in prepared.items():
        found, lengths = split.features, split.features.lengths
        low, middle, high = np.percentile(lengths, [0, 50, 95]).astype(int)
        sizes = f"tokens: minimum {low}, median {middle}, 95th percentile {high}, maximum {lengths.max()}"
        yield f"{name}: {len(split.examples):,} examples in {len(found):,} inputs; {sizes}"
        counted = [f"{count:,} {what.replace('_', ' ')}" for what, count in found.counts.items() if count]
        yield f"  targets {found.num_targets.sum():,}" + "".join(f", {words}" for words in counted)
        yield from _skipped(splits.skipped.get(name, []))
    yield from (f"note: {note}" for note in splits.notes)


def _skipped(rows: list[tuple[int, str]]) -> Iterator[str]:
    if rows:
        reasons = list(dict.fromkeys(reason for _, reason in rows))[:MOST_REASONS]
        yield f"  {len(rows):,} rows left out: {'; '.join(reasons)}"


# ---- baseline scores without a model
def _baselines(task: Task, prepared: Mapping[str, Prepared]) -> Iterator[str]:
    if "validation" not in prepared:
        return
    examples = list(islice(prepared["validation"].examples, MOST_SCORED))
    for name, scores in baseline_scores(task, prepared["train"].examples, examples).items():
        listed = ", ".join(f"{metric} {score:.2f}" for metric, score in scores.items())
        yield f"{name}: {listed}, on {len(examples):,} validation examples"
    yield from (f"note: {note}" for note in metric_notes(task, examples))


# ---- batches
def _batches(
    config: RunConfig, task: Task, prepared: Mapping[str, Prepared], skips_padding: bool
) -> Iterator[str]:
    on_cpu = accelerator.expects_cpu(config)
    overhead = overhead_of_batch(task.evaluation_overhead, on_cpu)
    train = prepared["train"]
    plan = plan_of(
        config,
        train.features,
        len(train.examples),
        num_ranks=config.processes,
        on_cpu=on_cpu,
        skips_padding=skips_padding,
    )
    num_steps = config.max_steps or config.num_epochs * plan.steps_per_epoch
    sampled = range(min(plan.steps_per_epoch, MOST_STEPS))
    pieces = [batch for number in sampled for rank in plan.step(number).micro_batches for batch in rank]
    share, widest = padding(pieces, train.features.lengths)
    yield (
        f"{num_steps:,} steps of {config.batch_size} examples, {plan.steps_per_epoch:,} an epoch, "
        f"{len(pieces) / len(sampled):.1f} micro-batches a step"
    )
    skipped = ", which only attention computes" if skips_padding else ""
    yield f"train: {100 * share:.1f} % of the tokens are padding{skipped}; at most {widest:,} a micro-batch"
    for name in [name for name in prepared if name != "train"]:
        lengths = prepared[name].features.lengths
        batches = fill(lengths, config.eval_max_tokens, overhead)
        share, widest = padding(batches, lengths)
        yield f"{name}: {len(batches):,} batches, {100 * share:.1f} % padding, at most {widest:,} tokens"


def padding(batches: Sequence[Sequence[int]], lengths: np.ndarray) -> tuple[float, int]:
    """Return the share of padding among the tokens of all batches, and the padded size of the largest."""
    padded = [len(batch) * int(max(lengths[list(batch)])) for batch in batches if batch]
    real = sum(int(lengths[list(batch)].sum()) for batch in batches if batch)
    return 1 - real / sum(padded), max(padded)


# ---- model
def _model(
    config: RunConfig, task: Task, model: PreTrainedModel, proof: custom_attention.Proof, features: Features
) -> Iterator[str]:
    total = sum(parameter.numel() for parameter in model.parameters())
    if config.lora:
        lora.adapt(model, config)
    variant = custom_attention.variant_parameters(model)
    for parameter in variant.values():
        parameter.requires_grad_(config.train_variant)
    of_variant = sum(parameter.numel() for parameter in variant.values())
    yield f"{type(model).__name__}: {total:,} parameters, {of_variant:,} of them the variant's"
    if config.lora:
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        yield f"LoRA of rank {config.lora.rank}: {trained:,} parameters are trained"
    yield proof.sentence
    fixed = sum(p.numel() * (TRAINED_BYTES if p.requires_grad else FROZEN_BYTES) for p in model.parameters())
    activations = saved_bytes(task, model, _largest(config, features))
    yield (
        f"memory: {_size(fixed)} for weights, gradients and AdamW, {_size(activations)} for the backward "
        "pass of the largest micro-batch (measured by one forward pass), and 0.6 GB for Python and PyTorch"
    )
    if config.gradient_checkpointing:
        recompute_activations(model)
        yield "gradient_checkpointing keeps less for the backward pass, which is not measured here"


def _largest(config: RunConfig, features: Features) -> list[dict[str, Any]]:
    """Return the longest inputs, as many as one micro-batch may hold."""
    order = np.argsort(-features.lengths, kind="stable")
    most = max(1, config.max_tokens // int(features.lengths[order[0]]))
    return [features[index] for index in order[: min(most, config.batch_size)]]


def saved_bytes(task: Task, model: torch.nn.Module, features: list[dict[str, Any]]) -> int:
    """Return the bytes that one forward pass keeps for its backward pass, without the weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = task.loss(model, task.collate(features))  # keeps the graph alive, and with it every storage
    del loss
    return sum(kept.values())


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


# ---- examples
def _examples(task: Task, features: Features, count: int) -> Iterator[str]:
    for feature in features[: min(count, len(features))]:
        yield f"[{feature['example_id']}] {task.feature_len(feature)} tokens"
        yield task.show(feature)
