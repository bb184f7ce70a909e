"""Prepare a run: data, model, attention and training, ready for the first step."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm
from transformers import PreTrainedModel

import custom_attention
from pipelines.config.load import RunConfig
from pipelines.data import features as feature_cache
from pipelines.data.features import Prepared
from pipelines.data.splits import SPLITS, Splits, kind_of, load_splits
from pipelines.distributed.accelerator import build_accelerator, start_line
from pipelines.distributed.stop import StopRequest
from pipelines.errors import Interrupted, RunFailed
from pipelines.models import flops, lora
from pipelines.models.activations import recompute_activations
from pipelines.models.attention import attach_and_prove
from pipelines.models.build import build_model
from pipelines.models.decoding import set_aside
from pipelines.models.dropout import dropout_line
from pipelines.models.freeze import freeze
from pipelines.models.head_labels import adopt_order, label_line
from pipelines.models.kernel import require_gpu, use_kernel
from pipelines.models.processor import load_processor
from pipelines.models.weights import loading_lines
from pipelines.runs import first_batch
from pipelines.shown import plural
from pipelines.storage.run_folder import RunFolder
from pipelines.tasks.base import Feature, Task
from pipelines.tasks.load import load_task
from pipelines.tasks.shared.baselines import metric_notes
from pipelines.tasks.shared.generation import describe_set_aside
from pipelines.tasks.shared.labels import Labelled
from pipelines.train import process_advice, trackers
from pipelines.train.engine import build_engine
from pipelines.train.loop import Training, agreed_to_stop
from pipelines.train.progress import Reporter
from pipelines.train.speed.allocator import keep_freed_memory, return_freed_memory, return_large_blocks
from pipelines.train.speed.products import keep_few_shapes

if TYPE_CHECKING:
    from peft import PeftModel

MOST_REASONS = 3  # for rows left out that are shown


def prepare(
    config: RunConfig, cache: Path, folder: RunFolder, stop: StopRequest, reporter: Reporter
) -> PreparedRun:
    """Prepare everything a run needs before its first step; only the feature cache is written.

    Raises:
        UserError: the data, the model or the attention cannot be used as configured.
        RunFailed: the ranks read different data.
        Interrupted: it was asked to stop.
    """
    trackers.require(config.trackers)
    require_gpu(config)
    accelerator = build_accelerator(config)
    reporter.say(start_line(config, accelerator))
    task, splits = load_data(config)
    model = build_model_of(config, task)  # before features are cached: a model may refuse its entries
    prepared = prepare_features(config, task, splits, cache)
    for line in about_data(splits):
        reporter.say(line)
    _require_equal_ranks(config, splits)
    for note in metric_notes(task, prepared["validation" if "validation" in prepared else "train"].examples):
        reporter.say(f"note: {note}")
    _stop_between_phases(accelerator, stop)
    first = first_batch.first_features(config, prepared["train"])
    proof = attach_attention(config, task, model, prepared["train"], first)
    if config.model.name is not None:
        for said in [*loading_lines(model), label_line(config, task, model)]:
            if said is not None:
                reporter.say(said)
    if set_aside(model):
        reporter.say(describe_set_aside(set_aside(model)))
    for said in [proof.sentence, *about_training(config, task, model)]:
        reporter.say(said)
    forward_flops = flops.of_forward(model, task.collate(list(prepared["train"].features[:4])))
    adapted = lora.adapt(model, config) if config.lora else None
    if config.freeze:
        reporter.say(freeze(model, config.freeze, train_variant=config.train_variant))
    if config.gradient_checkpointing:
        recompute_activations(model)
    model.to(accelerator.device)
    if config.kernel is not None:
        batch = task.collate(feature_cache.two_lengths(prepared["train"].features))
        reporter.say(use_kernel(config.kernel, model, task, batch, accelerator))
    _stop_between_phases(accelerator, stop)
    training = Training(
        config=config,
        engine=build_engine(config, accelerator, model, task, prepared["train"], stop),
        task=task,
        train=prepared["train"],
        validation=prepared.get("validation"),
        folder=folder,
        stop=stop,
        reporter=reporter,
    )
    reporter.say("an input of the first step: " + "\n  ".join(first_batch.shown(task, first[0])))
    if config.processes > 1:
        reporter.say(process_advice.shared_batch(config, training.plan))
    if prepared["train"].features.lengths.max() > config.max_tokens:
        return_large_blocks()
    return_freed_memory()
    return PreparedRun(
        task, splits, prepared.get("test"), proof, training, forward_flops, set_aside(model), adapted
    )


# ---- the steps, which `attnlab inspect` takes too
def load_data(config: RunConfig) -> tuple[Task, Splits]:
    """Load the task, the checked splits of its data, and the processor that the task is bound to.

    Raises:
        UserError: the data or the processor cannot be used as configured.
    """
    task = load_task(config)
    splits = load_splits(config.data, task)
    assert splits.train is not None  # `load_splits` requires it
    processor = load_processor(config, task, splits.train)
    if config.class_weights is not None:
        assert isinstance(task, Labelled), "the configuration refuses class_weights of other tasks"
        task.weigh(config.class_weights, splits.train)
    adopt_order(config, task)
    task.bind(processor, config.model.family)
    return task, splits


def about_data(splits: Splits) -> Iterator[str]:
    """Yield what was left out of each split, with some reasons, and the notes on the data."""
    for split, rows in splits.skipped.items():
        if rows:
            counts = Counter(kind_of(reason) for _, reason in rows).most_common(MOST_REASONS)
            first = {kind_of(reason): (number, reason) for number, reason in reversed(rows)}
            reasons = [f"{count:,} as row {first[kind][0]}, which {first[kind][1]}" for kind, count in counts]
            yield f"{split}: {plural(len(rows), 'row')} left out: {'; '.join(reasons)}"
    yield from (f"note: {note}" for note in splits.notes)


def about_training(config: RunConfig, task: Task, model: PreTrainedModel) -> Iterator[str]:
    """Yield what the shortcuts of the configuration became: each dropout, the weight of each label."""
    if config.dropout is not None:
        yield dropout_line(model.config, config.dropout)
    if isinstance(task, Labelled) and task.class_weights:
        yield task.weights_line()


def prepare_features(
    config: RunConfig, task: Task, splits: Splits, cache: Path | None
) -> dict[str, Prepared]:
    """Return the examples and features of every split; a `cache` of None keeps them in memory."""
    prepared = {}
    for split in SPLITS:
        examples = getattr(splits, split)
        if examples is not None:
            key = feature_key(config, task, splits.hashes[split])
            prepared[split] = Prepared(examples, feature_cache.build(task, examples, split, cache, key))
    return prepared


def build_model_of(config: RunConfig, task: Task) -> PreTrainedModel:
    """Build the model of a run with stock attention, for a task that is bound to its processor.

    Raises:
        UserError: the model cannot be built as configured.
    """
    return build_model(config, task.head, task.processor, task.model_options())


def attach_attention(
    config: RunConfig, task: Task, model: PreTrainedModel, train: Prepared, first: Sequence[Feature]
) -> custom_attention.Proof:
    """Attach a run's attention to its model, and prove the swap on a batch of `train`.

    Args:
        first: features of the first step.

    Raises:
        UserError: a variant cannot be used, nothing can be learned from the first step, or the swap is not
            exact.
    """
    own = not (config.model.name or config.model.tokenizer)
    first_batch.require_learnable(task, model, train, first, has_own_tokenizer=own)
    _, proof = attach_and_prove(config, model, task.collate(feature_cache.two_lengths(train.features)))
    return proof


def set_up_libraries(config: RunConfig) -> None:
    """Set the number of threads and what memory is kept; silence transformers: attnlab reports by itself."""
    torch.set_num_threads(config.threads)
    keep_freed_memory()
    keep_few_shapes()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # Its own lock is a named semaphore, which a forked run would leave behind; no bar is shared here.
    tqdm.set_lock(threading.RLock())


def feature_key(config: RunConfig, task: Task, data_hash: str) -> str:
    """Return the key of a split's features in the cache: a hash of all that they depend on."""
    return feature_cache.key(task, config.task.name, config.task.options, data_hash)


def _require_equal_ranks(config: RunConfig, splits: Splits) -> None:
    """Refuse ranks that read different rows or start from different models.

    Every rank computes the same batch plan and takes its share of it, so all must have the same rows.
    """
    read = json.dumps([splits.hashes, config.model.model_dump()], sort_keys=True)
    if len(set(gather_object([read]))) > 1:
        what = "the ranks read different data or start from different models"
        raise RunFailed(f"{what}; did a file or a branch change while they started? Start again.")


def _stop_between_phases(accelerator: Accelerator, stop: StopRequest) -> None:
    if agreed_to_stop(accelerator, stop):
        raise Interrupted("stopped before the first step; nothing is lost")


@dataclass(frozen=True)
class PreparedRun:
    """The parts of a run that is ready to train."""

    task: Task
    splits: Splits
    test: Prepared | None
    proof: custom_attention.Proof
    training: Training
    forward_flops: int  # of the first four features of training
    generation_set_aside: dict[str, Any]  # what of the checkpoint's generation_config is not used
    adapted: PeftModel | None = None  # wraps the model where LoRA trains it
