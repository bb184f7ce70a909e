"""One run from configuration to finished folder: start it, start it again, it ends the same."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import save_file

import custom_attention
from pipelines import features as feature_cache
from pipelines import identity
from pipelines.checkpoint import model_tensors
from pipelines.config import RunConfig
from pipelines.data import Splits, load_splits
from pipelines.errors import Interrupted, RunFailed, UserError
from pipelines.evaluation import to_device
from pipelines.interruption import StopRequest, listening
from pipelines.launch import is_first_rank
from pipelines.lock import Busy, lock
from pipelines.manifest import Run, manifest_of
from pipelines.model import build_model, load_processor
from pipelines.progress import Reporter
from pipelines.results import RunFolder
from pipelines.task import Task
from pipelines.train import Prepared, Training, agreed_to_stop, build_accelerator


def train_command(config: RunConfig, out: str) -> None:
    """`attnlab train`: run the configuration into folder `out`, as the only process or as one rank."""
    reporter = Reporter(enabled=is_first_rank())
    folder = RunFolder(Path(out))
    try:
        manifest = execute(config, folder, Path(out).parent / "cache", reporter)
    except Busy as error:
        raise RunFailed(f"{error}; one run folder takes one run at a time") from error
    except Interrupted as error:
        raise Interrupted(
            f"{error}. To go on, start the same command again: it resumes by itself."
        ) from error
    scores = manifest["scores"]
    for split, values in scores.items():
        reporter.say(f"{split}: " + ", ".join(f"{name} {value:.2f}" for name, value in values.items()))
    reporter.say(f"{manifest['status']}: {folder.path}")


def execute(config: RunConfig, folder: RunFolder, cache: Path, reporter: Reporter) -> dict[str, Any]:
    """Run one configuration to its end and return the manifest; a finished run is left untouched.

    Raises:
        Busy: another process works on this folder.
        UserError: the folder holds another run, or the configuration cannot work.
        RunFailed: it could not go on; what stands on disk is said.
        Interrupted: it was asked to stop and can be resumed.
    """
    described = identity.describe(config)
    with lock(folder.path / ".lock") if is_first_rank() else nullcontext():
        return _execute(config, described, folder, cache, reporter)


def _execute(
    config: RunConfig, described: dict[str, Any], folder: RunFolder, cache: Path, reporter: Reporter
) -> dict[str, Any]:
    _refuse_drift(folder, described)
    finished = folder.manifest()
    if finished is not None:
        reporter.say(f"{folder.path} is finished; nothing to do")
        return finished
    begun = time.perf_counter()
    set_up_libraries(config)
    with listening() as stop:
        run = _prepare(config, cache, folder, stop, reporter)
        if run.training.accelerator.is_main_process and folder.identity() is None:
            folder.write_identity(described, config.to_dict())
        manifest = _train_and_score(run, described)
        manifest["total_seconds"] = time.perf_counter() - begun
        if run.training.accelerator.is_main_process:
            folder.finish(manifest)
            run.training.store.remove_all()
        run.training.accelerator.wait_for_everyone()
    return manifest


def _refuse_drift(folder: RunFolder, described: dict[str, Any]) -> None:
    """A folder belongs to one run; another configuration never continues it."""
    before = folder.identity()
    if before is not None and before != described:
        changed = identity.differences(before, described)
        shown = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise UserError(
            str(folder.path),
            f"this folder holds another run: {shown}",
            accepted="choose another --out, or --fresh",
        )


def _prepare(config: RunConfig, cache: Path, folder: RunFolder, stop: StopRequest, reporter: Reporter) -> Run:
    accelerator = build_accelerator(config)
    reporter.say(start_line(config, accelerator))
    task = load_task(config)
    splits = load_splits(config.data, task)
    processor = load_processor(config, task.texts(splits.train))
    task.bind(processor, config.model.family)
    prepared = {
        name: _features(config, task, splits, name, cache)
        for name in ("train", "validation", "test")
        if getattr(splits, name) is not None
    }
    _require_equal_ranks(accelerator, splits)
    _stop_between_phases(accelerator, stop)
    model = build_model(config, task.head, processor, task.model_options())
    batch = task.collate(list(prepared["train"].features[:4]))
    model, proof = attach_and_prove(config, model, batch)
    reporter.say(proof.sentence)
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
    return Run(task, splits, prepared.get("test"), proof, training)


def start_line(config: RunConfig, accelerator: Accelerator) -> str:
    """What the run uses of this machine, and what it leaves unused."""
    running = f"{config.processes} process{'es' if config.processes > 1 else ''} on {accelerator.device.type}"
    if accelerator.device.type == "cpu":
        cores = os.cpu_count() or 1
        used = config.threads * config.processes
        unused = f"{cores - used} of {cores} cores unused" if used < cores else "no core unused"
        return f"{running}, {config.threads} thread{'s' if config.threads > 1 else ''} each; {unused}"
    left = torch.accelerator.device_count() - config.processes
    return f"{running}; {left} more of its kind unused" if left > 0 else f"{running}; none unused"


def load_task(config: RunConfig) -> Task:
    """The task a configuration names: the one class of `pipelines/tasks/<name>.py`, with its options."""
    module = importlib.import_module(f"pipelines.tasks.{config.task.name}")
    [task_class] = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module.__name__
    ]
    return task_class(**config.task.options)


def set_up_libraries(config: RunConfig) -> None:
    """Threads as asked for, and transformers quiet: what it would say, the run says itself."""
    torch.set_num_threads(config.threads)
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

    Raises:
        UserError: the model or a variant refuses, or the swap is not the exact function it should be.
    """
    inputs = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    with variant_errors_as_user_errors():
        attach(config, model, inputs)
        proof = custom_attention.prove(model, to_device(inputs, next(model.parameters()).device))
    if not proof.passed:
        raise UserError("attention", f"the swap is not exact: {proof.sentence}")
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


def _require_equal_ranks(accelerator: Accelerator, splits: Splits) -> None:
    """Ranks cut one plan into their shares, so all of them must have read the same rows."""
    if len({tuple(sorted(hashes.items())) for hashes in gather_object([splits.hashes])}) > 1:
        raise RunFailed("the ranks read different data; did a file change while they started? Start again.")


def _stop_between_phases(accelerator: Accelerator, stop: StopRequest) -> None:
    if agreed_to_stop(accelerator, stop):
        raise Interrupted("stopped before the first step; nothing is lost")


def _train_and_score(run: Run, described: dict[str, Any]) -> dict[str, Any]:
    """Train, score the test split once with the chosen weights, and say everything in a manifest."""
    training = run.training
    state = training.fit()
    evaluations = {}
    if run.test is not None and state.diverged_at is None:
        evaluations["test"] = training.score("test", run.test)
        if training.accelerator.is_main_process:
            training.folder.write_evaluation("test", evaluations["test"])
    if state.diverged_at is None:
        _save_model(run)
    return manifest_of(run, described, evaluations)


def _save_model(run: Run) -> None:
    """Keep the trained weights, as tensors only: no file here can be loaded as another model by mistake."""
    training = run.training
    weights = model_tensors(training.accelerator.unwrap_model(training.model))  # needs every rank
    if training.accelerator.is_main_process:
        training.folder.model.mkdir(parents=True, exist_ok=True)
        save_file(weights, training.folder.model / "weights.safetensors")
        run.task.processor.save_pretrained(training.folder.model)
