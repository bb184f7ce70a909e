"""`attnlab train`: train one run, on one or several processes, and push it to the Hub if configured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.config.load import RunConfig, load_run
from pipelines.distributed.launch import adopt_slurm_rank, is_first_rank, is_rank, launch
from pipelines.distributed.stop import leaving_at_once
from pipelines.errors import Interrupted, RunFailed
from pipelines.storage.lock import Busy
from pipelines.storage.names import CACHE
from pipelines.storage.removal import refuse_working_folder, remove_run
from pipelines.storage.run_folder import RunFolder


def train_command(files: Sequence[str], overrides: Sequence[str], out: str, *, fresh: bool) -> int:
    """Train the run of these files into folder `out`; return the exit status.

    A run on several processes is started from here as so many ranks, unless this process is one of them.

    Args:
        fresh: delete the run in `out` first.

    Raises:
        UserError: the configuration is wrong, or `out` holds something else than a run.
        RunFailed: the run could not continue.
        Interrupted: it was asked to stop and can be resumed.
    """
    config = load_run(files, overrides)
    refuse_working_folder(Path(out))
    adopt_slurm_rank()
    if fresh and not is_rank():
        delete_run(out)
    if config.processes > 1 and not is_rank():
        from pipelines.models.starting_point import pins

        # Every rank reads the settings again. It must not delete the run again (--fresh), and all ranks must
        # start from one commit of a Hub model, even if its branch moves meanwhile.
        again = ["train", *files, *overrides, *pins(config), "--out", out]
        return launch(again, processes=config.processes, threads=config.threads)
    with leaving_at_once():  # the imports below take seconds, in which a signal may come
        from pipelines.runs.quick_imports import quick_imports

        with quick_imports():
            import pipelines.runs.execute  # noqa: F401
        train(config, out)
    return 0


def train(config: RunConfig, out: str) -> None:
    """Train a run into folder `out`, as its only process or as one rank, and print its scores."""
    # Imported here: torch is not needed to start the ranks of a run.
    from pipelines.comparison import without_model
    from pipelines.data import counts
    from pipelines.models import starting_point
    from pipelines.publish import push
    from pipelines.runs.execute import execute
    from pipelines.train.progress import Reporter

    refuse_working_folder(Path(out))
    reporter = Reporter(enabled=is_first_rank())
    folder = RunFolder(Path(out))
    config = starting_point.pinned_run(config)
    if is_first_rank() and config.hub is not None and folder.manifest() is None:
        push.before_training(config, reporter.say)
    try:
        manifest = execute(config, folder, Path(out).parent / CACHE, reporter)
    except Busy as error:
        raise RunFailed(f"{error}; one run folder takes one run at a time") from error
    except Interrupted as error:
        raise Interrupted(f"{error}. To resume, start the same command again.") from error
    if manifest["train_seconds"]:
        rate = manifest["num_steps"] * config.batch_size / manifest["train_seconds"]
        reporter.say(f"trained on {rate:.3g} examples per second")
    for split, scores in manifest["scores"].items():
        listed = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
        reporter.say(f"{split}: {listed}{counts.describe_cuts(manifest['data']['counts'][split])}")
    if behind := without_model.note([manifest]):
        reporter.say(f"note: {behind}")
    reporter.say(f"{manifest['status']}: {folder.path}")
    if is_first_rank() and config.hub is not None and manifest["status"] == "finished":
        push.after_training(config, folder.path)


def delete_run(out: str) -> None:
    """Delete a run folder.

    Raises:
        UserError: the folder holds anything that no run writes.
        RunFailed: a process works on it.
    """
    try:
        remove_run(Path(out))
    except Busy as error:
        raise RunFailed(f"{error}, so nothing is removed") from error
