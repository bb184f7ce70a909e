"""One run from configuration to finished folder: start it, start it again, it ends the same."""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import SafetensorError

import custom_attention
from pipelines import beginning, drift, durable, flops, identity, lora, machine, model_folder, scaling
from pipelines import features as feature_cache
from pipelines.activations import recompute_activations
from pipelines.allocator import keep_freed_memory
from pipelines.config import RunConfig
from pipelines.data import Splits, load_splits
from pipelines.errors import Interrupted, RunFailed, UserError
from pipelines.hub import push
from pipelines.interruption import EXIT_BUSY, StopRequest, listening
from pipelines.launch import is_first_rank
from pipelines.lock import Busy, lock
from pipelines.manifest import Run, manifest_of
from pipelines.model import build_model
from pipelines.processor import load_processor, require_reader
from pipelines.progress import Reporter
from pipelines.results import RunFolder
from pipelines.task import Task
from pipelines.train import Prepared, Training, agreed_to_stop
from pipelines.transfer import to_device


def train_command(config: RunConfig, out: str) -> None:
    """`attnlab train`: run the configuration into folder `out`, as the only process or as one rank."""
    reporter = Reporter(enabled=is_first_rank())
    folder = RunFolder(Path(out))
    config = beginning.settled_run(config)
    if is_first_rank() and config.hub is not None and folder.manifest() is None:
        push.before_training(config, reporter.say)
    try:
        manifest = execute(config, folder, Path(out).parent / "cache", reporter)
    except Busy as error:
        raise RunFailed(f"{error}; one run folder takes one run at a time") from error
    except Interrupted as error:
        raise Interrupted(
            f"{error}. To go on, start the same command again: it resumes by itself."
        ) from error
    if manifest["train_seconds"]:
        rate = manifest["num_steps"] * config.batch_size / manifest["train_seconds"]
        reporter.say(f"trained on {rate:.3g} examples per second")
    scores = manifest["scores"]
    for split, values in scores.items():
        listed = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
        cut = feature_cache.losses_said(manifest["data"]["counts"][split])
        reporter.say(f"{split}: {listed}{cut}")
    reporter.say(f"{manifest['status']}: {folder.path}")
    if is_first_rank() and config.hub is not None and manifest["status"] == "finished":
        push.after_training(config, folder.path)


def execute(
    config: RunConfig, folder: RunFolder, cache: Path, reporter: Reporter, expected: str | None = None
) -> dict[str, Any]:
    """Run one configuration to its end and return the manifest; a finished run is left untouched.

    Args:
        expected: the beginning of the run's hash as it was planned, where it waited in a queue since.

    Raises:
        Busy: another process works on this folder.
        UserError: the folder holds another run, the configuration cannot work, or the run is not any more
            the one that was planned.
        RunFailed: it could not go on; what stands on disk is said.
        Interrupted: it was asked to stop and can be resumed.
    """
    described = identity.describe(config)
    if expected is not None and not identity.run_hash(described).startswith(expected):
        what = "its data, model or source has changed since attnlab ablate planned it, so it is another run"
        raise UserError(str(folder.path), what, accepted="start attnlab ablate again")

    def leave() -> None:
        reporter.say("another process has taken this run over, as this one did not answer; it leaves")
        os._exit(EXIT_BUSY)

    with lock(folder.path / ".lock", on_loss=leave) if is_first_rank() else nullcontext():
        try:
            return _execute(config, described, folder, cache, reporter)
        except (OSError, SafetensorError) as error:
            if not durable.says_full(error):
                raise
            what = f"{folder.path}: the disk is full ({error}); the checkpoints there are intact"
            raise RunFailed(f"{what}. Free space on that disk and start the same command again.") from error


def _execute(
    config: RunConfig, described: dict[str, Any], folder: RunFolder, cache: Path, reporter: Reporter
) -> dict[str, Any]:
    drift.refuse_another_run(folder, described)
    finished = folder.manifest()
    if finished is not None:
        reporter.say(f"{folder.path} is finished; nothing to do")
        return finished
    begun, computed = time.perf_counter(), time.process_time()
    set_up_libraries(config)
    with listening() as stop:
        run = prepare(config, cache, folder, stop, reporter)
        accelerator = run.training.accelerator
        is_main = accelerator.is_main_process
        drift.refuse_other_conditions(folder, config, accelerator.device.type, writes=is_main)
        if is_main and folder.identity() is None:
            folder.write_identity(described, config.to_dict())
        manifest = _train_and_score(run, described)
        manifest["total_seconds"] = time.perf_counter() - begun
        manifest["cpu_seconds"] = time.process_time() - computed  # of this rank
        if is_main:
            folder.finish(manifest)
            run.training.store.remove_all()
        accelerator.wait_for_everyone()
    return manifest


def prepare(config: RunConfig, cache: Path, folder: RunFolder, stop: StopRequest, reporter: Reporter) -> Run:
    """Everything a run needs, ready for its first step; nothing is written but the cache of features.

    Raises:
        UserError: the data, the model or the attention cannot be what the configuration asks for.
        Interrupted: it was asked to stop.
    """
    accelerator = machine.build_accelerator(config)
    reporter.say(machine.start_line(config, accelerator))
    task = load_task(config)
    splits = load_splits(config.data, task)
    processor = load_processor(config, task, splits.train)
    task.bind(processor, config.model.family)
    prepared = {
        name: _features(config, task, splits, name, cache)
        for name in ("train", "validation", "test")
        if getattr(splits, name) is not None
    }
    _require_equal_ranks(config, splits)
    _stop_between_phases(accelerator, stop)
    model = build_model(config, task.head, processor, task.model_options())
    if config.model.name is not None and model.drawn_parameters:
        reporter.say(drawn_line(model.drawn_parameters))
    features = prepared["train"].features
    model, proof = attach_and_prove(config, model, task.collate(feature_cache.two_lengths(features)))
    reporter.say(proof.sentence)
    forward_flops = flops.of_forward(model, task.collate(list(features[:4])))
    adapted = lora.adapt(model, config) if config.lora else None
    if config.gradient_checkpointing:
        recompute_activations(model)
    model.to(accelerator.device)
    _stop_between_phases(accelerator, stop)
    training = Training(
        config=config,
        accelerator=accelerator,
        model=model,
        task=task,
        train=prepared["train"],
        validation=prepared.get("validation"),
        folder=folder,
        stop=stop,
        reporter=reporter,
    )
    if config.processes > 1:
        reporter.say(scaling.shared_batch(config, training.plan))
    return Run(task, splits, prepared.get("test"), proof, training, forward_flops, adapted)


def drawn_line(names: Collection[str]) -> str:
    """Which weights do not come from the pretrained model, by their modules."""
    modules = sorted({name.rpartition(".")[0] for name in names})
    more = f" and {len(modules) - 5} more" if len(modules) > 5 else ""
    return (
        f"not in the pretrained model (or there for other labels), so drawn: {', '.join(modules[:5])}{more}"
    )


def load_task(config: RunConfig) -> Task:
    """The task a configuration names: the one class of `pipelines/tasks/<name>.py`, with its options.

    Raises:
        UserError: an option is refused, or what decodes its data is not installed.
    """
    module = importlib.import_module(f"pipelines.tasks.{config.task.name}")
    [task_class] = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module.__name__
    ]
    require_reader(task_class.reads)
    return task_class(**config.task.options)


def set_up_libraries(config: RunConfig) -> None:
    """Threads as asked for, freed memory kept, transformers quiet: what it would say, the run says itself."""
    torch.set_num_threads(config.threads)
    keep_freed_memory()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@contextmanager
def variant_errors_as_user_errors() -> Iterator[None]:
    """`custom_attention` knows nothing of `pipelines`: its refusals become ours here."""
    try:
        yield
    except custom_attention.VariantError as error:
        raise UserError(f"attention: {error.where}", error.what, error.came, error.accepted) from error


def attach(config: RunConfig, model: Any, example: dict[str, Any] | None = None) -> None:
    """Attach the run's variants to its model, in place."""
    spec = [{variant.name: variant.options} for variant in config.attention]
    custom_attention.attach(model, spec, where=config.where, example=example)


def attach_and_prove(config: RunConfig, model: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
    """Swap the attention in and prove on a real batch that it is what it claims to be.

    A model that brings its variants along keeps them as they are: it need not equal stock attention any more.

    Raises:
        UserError: the model or a variant refuses, or the swap is not the exact function it should be.
    """
    inputs = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    with variant_errors_as_user_errors():
        goes_on = custom_attention.is_attached(model)
        if goes_on:
            stacks = (stack for _, stack in custom_attention.attached(model))
            beginning.check_stated(config, next(stack.recipe for stack in stacks if len(stack)))
        else:
            attach(config, model, inputs)
        model_folder.check(model)
        proof = custom_attention.prove(model, to_device(inputs, next(model.parameters()).device))
    if goes_on:
        proof = beginning.gone_on(proof)
    if not proof.passed:
        raise UserError("attention", f"the swap is not exact: {proof.sentence.rstrip('.')}")
    return model, proof


def _features(config: RunConfig, task: Task, splits: Splits, split: str, cache: Path) -> Prepared:
    examples = getattr(splits, split)
    features = feature_cache.build(
        task, examples, split, cache, feature_key(config, task, splits.hashes[split])
    )
    return Prepared(examples, features)


def feature_key(config: RunConfig, task: Task, data_hash: str) -> str:
    """What the features of a split depend on."""
    return feature_cache.key(task, config.task.name, config.task.options, data_hash)


def _require_equal_ranks(config: RunConfig, splits: Splits) -> None:
    """Ranks cut one plan into their shares, so all must have read the same rows; and they train one model."""
    read = json.dumps([splits.hashes, config.model.model_dump()], sort_keys=True)
    if len(set(gather_object([read]))) > 1:
        what = "the ranks read different data or begin with different models"
        raise RunFailed(f"{what}; did a file or a branch change while they started? Start again.")


def _stop_between_phases(accelerator: Accelerator, stop: StopRequest) -> None:
    if agreed_to_stop(accelerator, stop):
        raise Interrupted("stopped before the first step; nothing is lost")


def _train_and_score(run: Run, described: dict[str, Any]) -> dict[str, Any]:
    """Train, score the test split once with the chosen weights, and say everything in a manifest."""
    training = run.training
    startup = time.process_time()
    state = training.fit()
    if run.adapted is not None:  # before anything is said of the model that stays
        run.adapted.merge_and_unload()
    evaluations = {}
    if run.test is not None and state.diverged_at is None:
        evaluations["test"] = training.score("test", run.test)
        if training.accelerator.is_main_process:
            may_show = training.config.data.publish_text
            inputs = [run.task.shown(example) for example in run.test.examples] if may_show else ()
            training.folder.write_evaluation("test", evaluations["test"], inputs)
    manifest = manifest_of(run, described, evaluations) | {"startup_cpu_seconds": startup}
    if state.diverged_at is None:
        accelerator, target = training.accelerator, training.folder.model
        model = accelerator.unwrap_model(training.model)
        model_folder.save(model, run.task.processor, target, writes=accelerator.is_main_process)
    return manifest
