"""`attnlab inspect`: what the model of a run will see and what training will cost, without training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
import transformers

import custom_attention
from pipelines.config.load import RunConfig
from pipelines.data import features as feature_cache
from pipelines.data.features import Features, two_lengths
from pipelines.data.splits import SPLITS, Splits, load_splits
from pipelines.distributed import accelerator
from pipelines.models import lora
from pipelines.models.activations import recompute_activations
from pipelines.models.attention import attach_and_prove
from pipelines.models.build import build_model
from pipelines.models.processor import load_processor
from pipelines.tasks.base import Task
from pipelines.tasks.load import load_task
from pipelines.tasks.shared.baselines import baseline_scores
from pipelines.train.batches import fill, overhead_of_batch, plan_of
from pipelines.train.speed import unpadding

MOST_STEPS = 500  # steps of the plan that padding is counted over
MOST_SCORED = 1000  # examples that what needs no model is scored on
MOST_REASONS = 3  # kinds of skipped rows that are shown
# Bytes of a parameter in training: weight, gradient, and AdamW's two moments, float32 each.
TRAINED_BYTES, FROZEN_BYTES = 16, 4


def inspect_command(config: RunConfig, num_examples: int) -> None:
    """Print what stands between the configuration and the first step."""
    torch.set_num_threads(config.threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    task = load_task(config)
    splits = load_splits(config.data, task)
    task.bind(load_processor(config, task, splits.train), config.model.family)
    features = {
        name: feature_cache.build(task, getattr(splits, name), name, None, "")
        for name in SPLITS
        if getattr(splits, name) is not None
    }
    _print("data", _data(splits, features))
    _print("without a model", _baselines(task, splits))
    model = build_model(config, task.head, task.processor, task.model_options())
    padded = task.collate(two_lengths(features["train"]))
    model, proof = attach_and_prove(config, model, padded)
    skips_padding = unpadding.that_suits(model, task, padded) is not None
    _print("batches", _batches(config, task, splits, features, skips_padding))
    _print("model", _model(config, task, model, proof, features["train"]))
    _print("examples of train", _examples(task, features["train"], num_examples))


def _print(title: str, lines: Iterator[str]) -> None:
    print(title)
    for line in lines:
        print("  " + line.replace("\n", "\n  "), flush=True)


# ---- data
def _data(splits: Splits, features: Mapping[str, Features]) -> Iterator[str]:
    for name, found in features.items():
        examples, lengths = getattr(splits, name), found.lengths
        low, middle, high = np.percentile(lengths, [0, 50, 95]).astype(int)
        sizes = f"tokens least {low}, median {middle}, 95 % {high}, most {lengths.max()}"
        yield f"{name}: {len(examples):,} examples in {len(found):,} inputs; {sizes}"
        counted = [f"{count:,} {what.replace('_', ' ')}" for what, count in found.counts.items() if count]
        yield f"  targets {found.num_targets.sum():,}" + "".join(f", {words}" for words in counted)
        yield from _skipped(splits.skipped.get(name, []))
    yield from (f"note: {note}" for note in splits.notes)


def _skipped(rows: list[tuple[int, str]]) -> Iterator[str]:
    if rows:
        reasons = list(dict.fromkeys(reason for _, reason in rows))[:MOST_REASONS]
        yield f"  {len(rows):,} rows left out: {'; '.join(reasons)}"


# ---- what any model must beat
def _baselines(task: Task, splits: Splits) -> Iterator[str]:
    examples = list(islice(splits.validation or (), MOST_SCORED))
    for way, scores in baseline_scores(task, splits.train, examples).items() if examples else ():
        listed = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
        yield f"{way}: {listed}, on {len(examples):,} validation examples"


# ---- batches
def _batches(
    config: RunConfig, task: Task, splits: Splits, features: Mapping[str, Features], skips_padding: bool
) -> Iterator[str]:
    on_cpu = accelerator.expects_cpu(config)
    overhead = overhead_of_batch(task.evaluation_overhead, on_cpu)
    plan = plan_of(
        config,
        features["train"],
        len(splits.train),
        num_ranks=config.processes,
        on_cpu=on_cpu,
        skips_padding=skips_padding,
    )
    num_steps = config.max_steps or config.num_epochs * plan.steps_per_epoch
    sampled = range(min(plan.steps_per_epoch, MOST_STEPS))
    pieces = [batch for number in sampled for hand in plan.step(number).micro_batches for batch in hand]
    share, widest = padding(pieces, features["train"].lengths)
    yield (
        f"{num_steps:,} steps of {config.batch_size} examples, {plan.steps_per_epoch:,} an epoch, "
        f"{len(pieces) / len(sampled):.1f} micro-batches a step"
    )
    skipped = ", which only attention computes" if skips_padding else ""
    yield f"train: {100 * share:.1f} % of the tokens are padding{skipped}; at most {widest:,} a micro-batch"
    for name in [name for name in features if name != "train"]:
        batches = fill(features[name].lengths, config.eval_max_tokens, overhead)
        share, widest = padding(batches, features[name].lengths)
        yield f"{name}: {len(batches):,} batches, {100 * share:.1f} % padding, at most {widest:,} tokens"


def padding(batches: Any, lengths: np.ndarray) -> tuple[float, int]:
    """Share of padding among the tokens of batches, and the padded tokens of the largest one."""
    padded = [len(batch) * int(max(lengths[list(batch)])) for batch in batches if batch]
    real = sum(int(lengths[list(batch)].sum()) for batch in batches if batch)
    return 1 - real / sum(padded), max(padded)


# ---- model
def _model(
    config: RunConfig, task: Task, model: torch.nn.Module, proof: custom_attention.Proof, features: Features
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
    standing = sum(
        p.numel() * (TRAINED_BYTES if p.requires_grad else FROZEN_BYTES) for p in model.parameters()
    )
    moving = saved_bytes(task, model, _largest(config, features))
    yield (
        f"memory: {_size(standing)} for weights, gradients and AdamW, {_size(moving)} for the backward pass "
        "of the largest micro-batch (measured by one forward pass), and 0.6 GB for Python and PyTorch"
    )
    if config.gradient_checkpointing:
        recompute_activations(model)
        yield "gradient_checkpointing keeps less for the backward pass, which is not measured here"


def _largest(config: RunConfig, features: Features) -> list[dict[str, Any]]:
    """The longest inputs, as many as one micro-batch may hold."""
    order = np.argsort(-features.lengths, kind="stable")
    most = max(1, config.max_tokens // int(features.lengths[order[0]]))
    return [features[index] for index in order[: min(most, config.batch_size)]]


def saved_bytes(task: Task, model: torch.nn.Module, features: list[dict[str, Any]]) -> int:
    """Bytes that one forward pass keeps for its backward pass, weights left out, each storage once."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = task.loss(model, task.collate(features))  # keeps the graph, and so every storage, alive
    del loss
    return sum(kept.values())


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


# ---- examples
def _examples(task: Task, features: Features, count: int) -> Iterator[str]:
    for feature in features[: min(count, len(features))]:
        yield f"[{feature['example_id']}] {task.feature_len(feature)} tokens"
        yield task.show(feature)
