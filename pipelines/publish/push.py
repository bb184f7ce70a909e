"""`attnlab push`: one commit on the Hub for a finished run or an ablation, repeatable after any failure.

If a run has a `hub:` section, the Hub is asked before its first step, and the same push follows its last.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.config.load import RunConfig
from pipelines.config.run import HubConfig
from pipelines.errors import RunFailed, UserError, UserErrors
from pipelines.hub.address import require_repo
from pipelines.hub.worker import ask
from pipelines.publish.send import only_push, preflight_request, show, upload
from pipelines.publish.staging import PushRequest, Staged
from pipelines.storage import reading
from pipelines.storage.names import HUB, RUNS
from pipelines.storage.paths import require_writable_folder


def push_command(folder: str, request: PushRequest, *, dry_run: bool) -> None:
    """Push a folder and print its address; with `dry_run`, stage it and print what would be sent.

    Raises:
        UserError: it is not a finished run or ablation, the Hub refuses the token or the name, or its files
            hold a secret or a path of this machine.
        RunFailed: the Hub could not be reached or the disk is full. The folder is unchanged, what was
            staged is kept, and the same command resumes.
    """
    require_repo(request.repo)
    require_writable_folder(Path(folder), f"a push is staged in its folder {HUB}; copy it to one of yours")
    with _naming_the_command(command(folder, request)):
        if reading.is_there(Path(folder) / RUNS):
            from pipelines.publish.ablation_repository import push_ablation

            push_ablation(Path(folder), request, dry_run=dry_run)
        else:
            push_run(Path(folder), request, dry_run=dry_run)


def push_run(path: Path, request: PushRequest, *, dry_run: bool = False) -> Staged:
    """Push one finished run; with `dry_run`, stage it only."""
    from pipelines.publish import run_repository

    folder, manifest = run_repository.finished(path)
    base_license = None
    if not dry_run:
        answer = ask("preflight", preflight_request(request, manifest["config"]))
        base_license = answer["base_license"]
    with only_push(path):
        staged = run_repository.stage(folder, request, base_license)
        return show(staged) if dry_run else upload(staged, request, f"{path.resolve().name}, by attnlab")


def command(folder: str, request: PushRequest) -> str:
    """Return the command that pushes this, as a user types it."""
    words = ["attnlab", "push", folder, request.repo]
    words += ["--revision", request.revision] if request.revision != "main" else []
    words += ["--private"] if request.private else []
    for option, value in (("--license", request.license), ("--data-license", request.data_license)):
        words += [option, value] if value else []
    return shlex.join(words)


@contextmanager
def _naming_the_command(again: str) -> Iterator[None]:
    """Add to every error that nothing is lost, and the command that resumes the push."""
    try:
        yield
    except UserErrors:
        raise
    except UserError as error:
        fix = f"{error.accepted or 'correct this'}, then {again}"
        raise UserError(error.where, error.what, error.came, fix) from error
    except RunFailed as error:
        raise RunFailed(f"{str(error).rstrip('.')}. Nothing is lost. To resume: {again}") from error


# ---- the `hub:` section of a run
def before_training(config: RunConfig, say: Callable[[str], None]) -> None:
    """Check what the push will need before time is spent: token, permission, a valid card.

    Raises:
        UserError: the Hub would refuse the push.
        RunFailed: the Hub cannot be asked, and `hub.on_unreachable` is "stop".
    """
    hub = _section(config)
    try:
        user = ask("preflight", preflight_request(_push_request(hub), config.to_dict()))["user"]
    except RunFailed as error:
        if hub.on_unreachable == "stop":
            fix = "hub.on_unreachable=train trains anyway and pushes at the end"
            raise RunFailed(f"{error}. Nothing was trained; {fix}") from error
        say(f"{error}; training anyway")
    else:
        say(f"{hub.repo}: {user} may push there when the run is finished")


def after_training(config: RunConfig, folder: Path) -> None:
    """Push the finished run, as `attnlab push` does.

    Raises:
        RunFailed: the run is finished but not on the Hub; the message names the command that pushes it.
    """
    try:
        push_command(str(folder), _push_request(_section(config)), dry_run=False)
    except UserError as error:
        raise RunFailed(f"{folder} is finished, but not pushed: {error.sentence()}") from error


def _section(config: RunConfig) -> HubConfig:
    assert config.hub is not None, "called for a run without a hub section"
    return config.hub


def _push_request(hub: HubConfig) -> PushRequest:
    return PushRequest(**hub.model_dump(exclude={"on_unreachable"}))
