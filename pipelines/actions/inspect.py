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
from pipelines.models import lora, starting_point
from pipelines.models.activations import recompute_activations
from pipelines.models.decoding import set_aside
from pipelines.models.freeze import freeze
from pipelines.runs import first_batch
from pipelines.runs.baselines import baseline_record
from pipelines.runs.prepare import (
    about_data,
    about_training,
    attach_attention,
    build_model_of,
    load_data,
    prepare_features,
    set_up_libraries,
)
from pipelines.shown import plural, printable
from pipelines.tasks.base import Task
from pipelines.tasks.shared.baselines import metric_notes
from pipelines.tasks.shared.generation import describe_set_aside
from pipelines.train.batches import fill, overhead_of_batch, plan_of
from pipelines.train.muon import layer_matrices
from pipelines.train.optimizer import num_warmup_steps
from pipelines.train.speed import unpadding

MOST_STEPS = 500  # steps whose padding is counted
SHOWN_ROWS, MOST_SHOWN = 3, 160  # first rows that are shown, characters of a cell
# Numbers that an optimizer keeps of each parameter; Adafactor keeps a row and a column of a matrix.
MOMENTS = {"adamw": 2, "adafactor": 0, "sgd": 1, "muon": 1}


def inspect_command(config: RunConfig, num_examples: int) -> None:
    """Print the data, batches, model and first inputs of a run.

    Raises:
        UserError: the data, the model or the attention cannot be what the configuration asks for.
    """
    config = starting_point.pinned_run(config)
    set_up_libraries(config)
    task, splits = load_data(config)
    prepared = prepare_features(config, task, splits, cache=None)
    train = prepared["train"].features
    first = first_batch.first_features(config, prepared["train"])
    _print("columns", _columns(task, splits))
    _print("data", _data(splits, prepared))
    _print("without a model", _baselines(task, prepared))
    model = build_model_of(config, task)
    proof = attach_attention(config, task, model, prepared["train"], first)
    padded = task.collate(two_lengths(train))
    skips_padding = unpadding.unpadding_for(model, task, padded) is not None
    _print("batches", _batches(config, task, prepared, skips_padding))
    _print("model", _model(config, task, model, proof, train))
    _print("examples of train", _examples(task, train, num_examples))


def _print(title: str, lines: Iterator[str]) -> None:
    print(printable(title))
    for line in lines:
        print("  " + printable(line).replace("\n", "\n  "), flush=True)


# ---- data
def _columns(task: Task, splits: Splits) -> Iterator[str]:
    """Say how each source was read, with the first rows of train as the task sees them."""
    yield from (f"{split}: {layout}" for split, layout in splits.layouts.items())
    for example in islice(splits.train or (), SHOWN_ROWS):
        cells = (f"{name}={_clipped(example[name])}" for name in task.columns if name in example)
        yield f"row {example['id']}: {', '.join(cells)}"


def _clipped(value: object) -> str:
    text = f"{len(value):,} bytes" if isinstance(value, bytes) else repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]} ..."


def _data(splits: Splits, prepared: Mapping[str, Prepared]) -> Iterator[str]:
    for name, split in prepared.items():
        found, lengths = split.features, split.features.lengths
        low, middle, high = np.percentile(lengths, [0, 50, 95]).astype(int)
        sizes = f"tokens: minimum {low}, median {middle}, 95th percentile {high}, maximum {lengths.max()}"
        yield f"{name}: {plural(len(split.examples), 'example')} in {plural(len(found), 'input')}; {sizes}"
        counted = [f"{count:,} {what.replace('_', ' ')}" for what, count in found.counts.items() if count]
        yield f"  targets {found.num_targets.sum():,}" + "".join(f", {words}" for words in counted)
    yield from about_data(splits)


# ---- baseline scores without a model
def _baselines(task: Task, prepared: Mapping[str, Prepared]) -> Iterator[str]:
    scored = prepared["validation" if "validation" in prepared else "train"].examples
    yield from (f"note: {note}" for note in metric_notes(task, scored))
    record = baseline_record(task, prepared)
    if record is None:
        return
    for name, scores in record["scores"].items():
        listed = ", ".join(f"{metric} {score:.2f}" for metric, score in scores.items())
        yield f"{name}: {listed}, on {plural(record['num_examples'], record['split'] + ' example')}"


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
    num_warmup_steps(config, num_steps)  # refuses a warm-up that does not fit
    sampled = range(min(plan.steps_per_epoch, MOST_STEPS))
    pieces = [batch for number in sampled for rank in plan.step(number).micro_batches for batch in rank]
    share, widest = padding(pieces, train.features.lengths)
    yield (
        f"{plural(num_steps, 'step')} of {plural(config.batch_size, 'example')}, "
        f"{plan.steps_per_epoch:,} an epoch, {len(pieces) / len(sampled):.1f} micro-batches a step"
    )
    skipped = ", which only attention computes" if skips_padding else ""
    yield f"train: {100 * share:.1f} % of the tokens are padding{skipped}; at most {widest:,} a micro-batch"
    for name in [name for name in prepared if name != "train"]:
        lengths = prepared[name].features.lengths
        batches = fill(lengths, config.eval_max_tokens, overhead)
        share, widest = padding(batches, lengths)
        size = f"{100 * share:.1f} % padding, at most {widest:,} tokens"
        yield f"{name}: {plural(len(batches), 'batch')}, {size}"


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
    if config.freeze:
        yield freeze(model, config.freeze, train_variant=config.train_variant)
    if config.lora:
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        yield f"LoRA of rank {config.lora.rank}: {trained:,} parameters are trained"
    if set_aside(model):
        yield describe_set_aside(set_aside(model))
    yield proof.sentence
    yield from about_training(config, task, model)
    fixed = sum(p.numel() * p.element_size() for p in model.parameters()) + trained_bytes(config, model)
    activations = saved_bytes(task, model, _largest(config, features))
    yield (
        f"memory: {_size(fixed)} for weights, gradients and {config.optimizer}, {_size(activations)} for the "
        "backward pass of the largest micro-batch (measured by one forward pass), and 0.6 GB for Python and "
        "PyTorch"
    )
    if config.gradient_checkpointing:
        recompute_activations(model)
        yield "gradient_checkpointing keeps less for the backward pass, which is not measured here"


def trained_bytes(config: RunConfig, model: PreTrainedModel) -> int:
    """Return the bytes of the gradients and of what the optimizer keeps, float32 each."""
    of_muon = {id(matrix) for matrix in layer_matrices(model)} if config.optimizer == "muon" else set()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    moments = MOMENTS[config.optimizer] if config.optimizer != "sgd" or config.momentum else 0
    numbers = sum(
        parameter.numel() * (1 + (MOMENTS["adamw"] if of_muon and id(parameter) not in of_muon else moments))
        for parameter in trained
    )
    return 4 * numbers


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
        return tensor.detach()  # an output that knows its graph, kept by it, would never be freed

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
        yield from first_batch.shown(task, feature)
