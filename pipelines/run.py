"""One run from configuration to finished folder: start it, start it again, it ends the same."""

from __future__ import annotations

import importlib
import os
import resource
import time
from dataclasses import asdict
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
from pipelines.lock import Busy, lock
from pipelines.model import build_model, load_processor
from pipelines.progress import Reporter
from pipelines.results import RunFolder, environment
from pipelines.task import Task
from pipelines.train import Prepared, Training, agreed_to_stop, build_accelerator


def train_command(config: RunConfig, out: str) -> None:
    """`attnlab train`: run the configuration into folder `out`, as the only process or as one rank."""
    reporter = Reporter(enabled=int(os.environ.get("RANK", 0)) == 0)
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
    is_main = int(os.environ.get("RANK", 0)) == 0
    if not is_main:
        return _execute(config, described, folder, cache, reporter)
    with lock(folder.path / ".lock"):
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
    torch.set_num_threads(config.threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
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


class _Run:
    """The parts of a run that its manifest speaks of."""

    def __init__(
        self, task: Task, splits: Splits, test: Prepared | None, proof: Any, training: Training
    ) -> None:
        self.task, self.splits, self.test, self.proof, self.training = task, splits, test, proof, training


def _prepare(
    config: RunConfig, cache: Path, folder: RunFolder, stop: StopRequest, reporter: Reporter
) -> _Run:
    accelerator = build_accelerator(config)
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
    return _Run(task, splits, prepared.get("test"), proof, training)


def load_task(config: RunConfig) -> Task:
    """The task a configuration names: the one class of `pipelines/tasks/<name>.py`, with its options."""
    module = importlib.import_module(f"pipelines.tasks.{config.task.name}")
    [task_class] = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module.__name__
    ]
    return task_class(**config.task.options)


def attach_and_prove(config: RunConfig, model: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
    """Swap the attention in and prove on a real batch that it is what it claims to be.

    Raises:
        UserError: the model or a variant refuses, or the swap is not the exact function it should be.
    """
    spec = [{variant.name: variant.options} for variant in config.attention]
    inputs = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    try:
        model = custom_attention.attach(model, spec, where=config.where, example=inputs)
        proof = custom_attention.prove(model, to_device(inputs, next(model.parameters()).device))
    except custom_attention.VariantError as error:
        raise UserError(f"attention: {error.where}", error.what, error.came, error.accepted) from error
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


def _train_and_score(run: _Run, described: dict[str, Any]) -> dict[str, Any]:
    """Train, score the test split once with the chosen weights, and say everything in a manifest."""
    training = run.training
    state = training.fit()
    scores = {"validation": state.best_scores} if state.best_step is not None else {}
    is_main = training.accelerator.is_main_process
    if run.test is not None and state.diverged_at is None:
        evaluation = training.score("test", run.test)
        scores["test"] = evaluation.scores
        if is_main:
            training.folder.write_evaluation("test", evaluation)
    if is_main and state.diverged_at is None:
        _save_model(run)
    return _manifest(run, described, scores)


def _save_model(run: _Run) -> None:
    """Keep the trained weights, as tensors only: no file here can be loaded as another model by mistake."""
    training = run.training
    model = training.accelerator.unwrap_model(training.model)
    training.folder.model.mkdir(parents=True, exist_ok=True)
    save_file(model_tensors(model), training.folder.model / "weights.safetensors")
    run.task.processor.save_pretrained(training.folder.model)


def _manifest(run: _Run, described: dict[str, Any], scores: dict[str, dict[str, float]]) -> dict[str, Any]:
    training, splits = run.training, run.splits
    config, state = training.config, training.state
    model = training.accelerator.unwrap_model(training.model)
    prepared = {"train": training.train, "validation": training.validation, "test": run.test}
    return {
        "status": "finished" if state.diverged_at is None else "diverged",
        "run_hash": identity.run_hash(described),
        "config": config.to_dict(),
        "task": config.task.name,
        "task_state": run.task.state(),
        "model_name": config.model.name or f"{config.model.architecture} from scratch",
        "scores": scores,
        "metrics": {
            name: {
                "module": metric.module,
                "options": metric.options,
                "columns": list(metric.columns),
                "signature": metric.signature,
                "higher_is_better": metric.higher_is_better,
            }
            for name, metric in run.task.metrics.items()
        },
        "primary": training.selecting_metric,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "num_variant_parameters": sum(
            parameter.numel() for parameter in custom_attention.variant_parameters(model).values()
        ),
        "num_steps": state.step,
        "best_step": state.best_step,
        "diverged_at": state.diverged_at,
        "train_seconds": state.train_seconds,
        "peak_memory_bytes": _peak_memory(training.accelerator.device),
        "proof": asdict(run.proof),
        "data": {
            "hashes": splits.hashes,
            "num_examples": {name: len(part.examples) for name, part in prepared.items() if part},
            "num_features": {name: len(part.features) for name, part in prepared.items() if part},
            "skipped": {name: len(rows) for name, rows in splits.skipped.items()},
            "notes": splits.notes,
        },
        "batches_hash": training.plan.digest(training.num_steps),
        "environment": environment(config.to_dict(), str(training.accelerator.device)),
    }


def _peak_memory(device: torch.device) -> int:
    """Most memory this process held, in bytes: of the device where it has its own, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
