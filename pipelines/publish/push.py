"""`attnlab push`: a finished run or an ablation to the Hub, repeatable at any point, in one commit.

With `hub:` in a run the Hub is asked before its first step, and the same push follows its last.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.config.load import RunConfig
from pipelines.errors import RunFailed, UserError, UserErrors
from pipelines.hub.address import require_repo
from pipelines.hub.worker import ask
from pipelines.publish.send import only_push, preflight_of, show, upload
from pipelines.publish.staging import PushRequest, Staged
from pipelines.storage.names import RUNS


def push_command(folder: str, wanted: PushRequest, *, dry_run: bool) -> None:
    """Push a folder and say where it is; with `dry_run` make it ready, and say what would be sent.

    Raises:
        UserError: it is no finished run or ablation, the Hub refuses the token or the name, or something
            in it must not leave this machine.
        RunFailed: the Hub could not be reached or the disk is full. The folder is as it was, what was
            made ready stays, and the same command goes on.
    """
    require_repo(wanted.repo)
    with _going_on(command(folder, wanted)):
        if (Path(folder) / RUNS).exists():
            from pipelines.publish.ablation_repository import push_ablation

            push_ablation(Path(folder), wanted, dry_run=dry_run)
        else:
            push_run(Path(folder), wanted, dry_run=dry_run)


def push_run(path: Path, wanted: PushRequest, *, dry_run: bool = False) -> Staged:
    """Push one finished run."""
    from pipelines.publish import run_repository

    folder = run_repository.finished(path)
    known = {} if dry_run else ask("preflight", preflight_of(wanted, folder.manifest()["config"]))
    with only_push(path):
        staged = run_repository.stage(folder, wanted, known.get("base_license"))
        return show(staged) if dry_run else upload(staged, wanted, f"{path.resolve().name}, by attnlab")


def command(folder: str, wanted: PushRequest) -> str:
    """The command that pushes this, as a user would type it."""
    words = ["attnlab", "push", folder, wanted.repo]
    words += ["--revision", wanted.revision] if wanted.revision != "main" else []
    words += ["--private"] if wanted.private else []
    for option, value in (("--license", wanted.license), ("--data-license", wanted.data_license)):
        words += [option, value] if value else []
    return shlex.join(words)


@contextmanager
def _going_on(again: str) -> Iterator[None]:
    """Whatever fails, say that nothing is lost and how to go on."""
    try:
        yield
    except UserErrors:
        raise
    except UserError as error:
        fix = f"{error.accepted or 'mend it'}, then {again}"
        raise UserError(error.where, error.what, error.came, fix) from error
    except RunFailed as error:
        raise RunFailed(f"{str(error).rstrip('.')}. Nothing is lost. To go on: {again}") from error


# ---- the `hub:` section of a run
def before_training(config: RunConfig, say: Callable[[str], None]) -> None:
    """Ask the Hub what the push will need, while nothing is spent yet: token, permission, a valid card.

    Raises:
        UserError: the Hub would refuse the push.
        RunFailed: it cannot be asked, and `hub.on_unreachable` is "stop".
    """
    try:
        user = ask("preflight", preflight_of(_wanted(config), config.to_dict()))["user"]
    except RunFailed as error:
        if config.hub.on_unreachable == "stop":
            fix = "hub.on_unreachable=train trains all the same and pushes at the end"
            raise RunFailed(f"{error}. Nothing was trained; {fix}") from error
        say(f"{error}; training all the same")
    else:
        say(f"{config.hub.repo}: {user} may push there when the run is finished")


def after_training(config: RunConfig, folder: Path) -> None:
    """Push the finished run, as `attnlab push` does.

    Raises:
        RunFailed: it is not on the Hub; the run is finished all the same, and the message says how to go on.
    """
    try:
        push_command(str(folder), _wanted(config), dry_run=False)
    except UserError as error:
        raise RunFailed(f"{folder} is finished, but not pushed: {error.sentence()}") from error


def _wanted(config: RunConfig) -> PushRequest:
    return PushRequest(**config.hub.model_dump(exclude={"on_unreachable"}))
