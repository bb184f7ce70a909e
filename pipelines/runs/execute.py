"""One run from configuration to finished folder: start it, start it again, it ends the same."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pipelines.config.load import RunConfig
from pipelines.distributed.launch import is_first_rank
from pipelines.distributed.stop import EXIT_BUSY, listening
from pipelines.errors import RunFailed, UserError
from pipelines.models import saving
from pipelines.runs import identity, resume_checks
from pipelines.runs.manifest import manifest_of
from pipelines.runs.prepare import PreparedRun, prepare, set_up_libraries
from pipelines.storage import atomic
from pipelines.storage.lock import lock
from pipelines.storage.names import LOCK
from pipelines.storage.run_folder import RunFolder
from pipelines.train.progress import Reporter


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

    with lock(folder.path / LOCK, on_loss=leave) if is_first_rank() else nullcontext():
        try:
            return _execute(config, described, folder, cache, reporter)
        except (OSError, SafetensorError) as error:
            if not atomic.says_full(error):
                raise
            what = f"{folder.path}: the disk is full ({error}); the checkpoints there are intact"
            raise RunFailed(f"{what}. Free space on that disk and start the same command again.") from error


def _execute(
    config: RunConfig, described: dict[str, Any], folder: RunFolder, cache: Path, reporter: Reporter
) -> dict[str, Any]:
    resume_checks.refuse_another_run(folder, described)
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
        resume_checks.refuse_other_conditions(folder, config, accelerator.device.type, writes=is_main)
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


def _train_and_score(run: PreparedRun, described: dict[str, Any]) -> dict[str, Any]:
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
        model = training.model
        saving.save(model, run.task.processor, target, writes=accelerator.is_main_process)
    return manifest
