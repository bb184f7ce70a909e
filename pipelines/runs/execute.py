"""Execute one run: lock its folder, prepare, train, score, write the manifest.

A run that was stopped or killed resumes from its last checkpoint and ends with the same bits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pipelines.config.load import RunConfig
from pipelines.distributed.launch import is_first_rank
from pipelines.distributed.stop import EXIT_BUSY, listening
from pipelines.errors import RunFailed, UserError
from pipelines.models import saving
from pipelines.runs import identity, resume_checks
from pipelines.runs.collect import collect_manifest
from pipelines.runs.manifest import Manifest, read_manifest
from pipelines.runs.prepare import PreparedRun, prepare, set_up_libraries
from pipelines.storage import atomic
from pipelines.storage.lock import lock
from pipelines.storage.names import FAILURE, LOCK, RUN
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.temporary import SECONDS_OF_A_WRITE, sweep
from pipelines.train.evaluate import Evaluation
from pipelines.train.progress import Reporter


def execute(
    config: RunConfig,
    folder: RunFolder,
    cache: Path,
    reporter: Reporter,
    expected: str | None = None,
    registration: str | None = None,
) -> Manifest:
    """Execute one run to its end and return its manifest; a finished run is not changed.

    Args:
        cache: folder of the feature cache.
        expected: first characters of the run's hash when it was planned; None does not check it.
        registration: seal of the registration that it is trained under, for its manifest.

    Raises:
        Busy: another process works on this folder.
        UserError: the folder holds another run, the configuration cannot work, or the run is not the one
            that was planned.
        RunFailed: it could not be completed; the message says what is intact on disk.
        Interrupted: it was asked to stop and can be resumed.
    """
    described = identity.describe(config)
    if expected is not None and not identity.run_hash(described).startswith(expected):
        what = "its data, model or source has changed since attnlab ablate planned it, so it is another run"
        raise UserError(str(folder.path), what, accepted="start attnlab ablate again")

    def leave() -> None:
        reporter.say("this process did not respond for too long, another one took over its run; it stops")
        os._exit(EXIT_BUSY)

    is_new = is_first_rank() and not folder.path.exists()
    try:
        return _execute_alone(config, described, folder, cache, reporter, registration, leave)
    finally:
        if is_new:  # a run that is refused leaves no folder; one with anything in it stays
            with suppress(OSError):
                folder.path.rmdir()


def _execute_alone(
    config: RunConfig,
    described: Mapping[str, Any],
    folder: RunFolder,
    cache: Path,
    reporter: Reporter,
    registration: str | None,
    leave: Callable[[], None],
) -> Manifest:
    """Execute one run while this process holds the lock of its folder."""
    with lock(folder.path / LOCK, on_loss=leave) if is_first_rank() else nullcontext():
        if is_first_rank():
            sweep(folder.path, SECONDS_OF_A_WRITE)
            (folder.path / FAILURE).unlink(missing_ok=True)  # of an earlier start
        try:
            return _execute(config, described, folder, cache, reporter, registration)
        except (OSError, SafetensorError) as error:
            if not atomic.is_disk_full(error):
                raise
            what = f"{folder.path}: the disk is full ({error}); the checkpoints there are intact"
            raise RunFailed(f"{what}. Free space on that disk and start the same command again.") from error


def _execute(
    config: RunConfig,
    described: Mapping[str, Any],
    folder: RunFolder,
    cache: Path,
    reporter: Reporter,
    registration: str | None,
) -> Manifest:
    resume_checks.refuse_another_run(folder, described)
    finished = read_manifest(folder)
    if finished is not None:
        reporter.say(f"{folder.path} is finished; nothing to do")
        return finished
    started, cpu_started = time.perf_counter(), time.process_time()
    set_up_libraries(config)
    with listening() as stop:
        run = prepare(config, cache, folder, stop, reporter)
        accelerator = run.training.accelerator
        is_main = accelerator.is_main_process
        resume_checks.refuse_other_conditions(folder, config, accelerator.device.type, writes=is_main)
        if is_main and not (folder.path / RUN).exists():
            folder.write_identity(described, config.to_dict())
        manifest = _train_and_score(run, described)
        manifest["total_seconds"] = time.perf_counter() - started
        manifest["cpu_seconds"] = time.process_time() - cpu_started
        if registration is not None:
            manifest["registration"] = registration
        if is_main:
            folder.finish(manifest)
            run.training.store.remove_all()
            (folder.path / FAILURE).unlink(missing_ok=True)  # of a try that was reported after this start
        accelerator.wait_for_everyone()
    return manifest


def _train_and_score(run: PreparedRun, described: Mapping[str, Any]) -> Manifest:
    """Train, score the test split once with the weights of the best step, and save the model."""
    training = run.training
    startup_cpu_seconds = time.process_time()
    state = training.fit()
    if run.adapted is not None:  # so that what is counted, scored and saved is the merged model
        run.adapted.merge_and_unload()
    evaluations = {} if state.diverged_at is not None else _score_test(run)
    manifest = collect_manifest(run, described, evaluations, startup_cpu_seconds)
    if state.diverged_at is None:
        writes = training.accelerator.is_main_process
        saving.save(training.model, run.task.processor, training.folder.model, writes=writes)
    return manifest


def _score_test(run: PreparedRun) -> dict[str, Evaluation]:
    """Score the test split, if there is one, and write its predictions."""
    if run.test is None:
        return {}
    training = run.training
    evaluation = training.score("test", run.test)
    if training.accelerator.is_main_process:
        may_publish = training.config.data.publish_text
        inputs = [run.task.shown(example) for example in run.test.examples] if may_publish else ()
        training.folder.write_evaluation("test", evaluation, inputs)
    return {"test": evaluation}
