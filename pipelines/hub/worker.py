"""The one process that talks to the Hub: the module `pipelines.hub.worker`, one request in, one answer out.

A client library that hangs cannot hang its caller: `ask` gives the process a deadline. The process imports
neither torch nor transformers, and ends when the process that started it ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

from pipelines.errors import RunFailed, UserError
from pipelines.hub import messages
from pipelines.registry.child import python_module

SLOWEST_LINE = 50_000  # bytes per second; a slower upload counts as a hang


@overload
def ask(action: Literal["preflight"], request: messages.PreflightRequest) -> messages.PreflightAnswer: ...
@overload
def ask(action: Literal["anchor"], request: messages.AnchorRequest) -> messages.UploadAnswer: ...
@overload
def ask(action: Literal["anchored"], request: messages.AnchoredRequest) -> messages.AnchoredAnswer: ...
@overload
def ask(
    action: Literal["upload"], request: messages.UploadRequest, *, num_bytes: int
) -> messages.UploadAnswer: ...
@overload
def ask(
    action: Literal["download"], request: messages.DownloadRequest, *, num_bytes: None
) -> messages.DownloadAnswer: ...
@overload
def ask(action: Literal["commit"], request: messages.CommitRequest) -> messages.CommitAnswer: ...
@overload
def ask(
    action: Literal["fill"], request: messages.FillRequest, *, num_bytes: None
) -> messages.FillAnswer: ...
@overload
def ask(action: Literal["hardware"], request: messages.HardwareRequest) -> messages.HardwareAnswer: ...
@overload
def ask(
    action: Literal["job_preflight"], request: messages.JobPreflightRequest
) -> messages.JobPreflightAnswer: ...
@overload
def ask(action: Literal["jobs"], request: messages.JobsRequest) -> messages.JobsAnswer: ...
@overload
def ask(action: Literal["withdraw_jobs"], request: messages.WithdrawRequest) -> messages.WithdrawAnswer: ...
@overload
def ask(action: Literal["job_log"], request: messages.JobLogRequest) -> messages.JobLogAnswer: ...
def ask(action: str, request: Mapping[str, Any], *, num_bytes: int | None = 0) -> Any:
    """Run an action of `pipelines.hub` in the worker process and return its answer.

    No other function sends anything to the Hub, so every text of the request is searched here for secrets
    and local paths first.

    Args:
        action: the name of a function of `pipelines.hub`.
        request: what the action takes; a `Path` in it stays on this machine, or is the user's place in a job.
        num_bytes: the size of the transfer, which sets the deadline; None: not known, so no deadline.

    Raises:
        UserError: the request holds a secret; or as the action raised it.
        RunFailed: as the action raised it, or the deadline has passed.
    """
    from pipelines.hub import secrets
    from pipelines.hub.client import Patience

    secrets.refuse_request(request)
    patience = Patience.from_environment()
    deadline = None if num_bytes is None else 6 * patience.seconds + num_bytes / SLOWEST_LINE
    answer, status = _converse({"action": action, **request}, deadline)
    if not answer:
        killed = status == -signal.SIGKILL and deadline is not None
        reason = f"no answer within {deadline:.0f} s" if killed else f"status {status}"
        raise RunFailed(f"{request['repo']}: talking to the Hub ended without a result ({reason})")
    return _result(json.loads(answer))


def _converse(request: Mapping[str, Any], deadline: float | None) -> tuple[bytes, int]:
    """Start the worker, send it a request, and return its answer and its exit status.

    After `deadline` seconds it is killed; its answer is then empty.
    """
    command = python_module("pipelines.hub.worker")
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} if not sys.stderr.isatty() else {}
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | quiet, start_new_session=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    watchdog = threading.Timer(deadline or threading.TIMEOUT_MAX, child.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        child.stdin.write(json.dumps(request, default=str).encode() + b"\n")
        child.stdin.flush()  # stays open: the worker ends when this process no longer holds it
        answer = child.stdout.read()
        return answer, child.wait()
    except BaseException:
        child.kill()
        child.wait()
        raise
    finally:
        watchdog.cancel()
        child.stdin.close()
        child.stdout.close()


def _result(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer of the worker, or raise the error that it carries."""
    if "user_error" in answer:
        raise UserError(*answer["user_error"])
    if "failed" in answer:
        raise RunFailed(answer["failed"])
    return answer


def main() -> None:
    """Read one request from standard input and write one answer to standard output."""
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    answer_to = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not part of the answer
    answer_to.write(json.dumps(_answer(request)).encode())
    answer_to.flush()
    os._exit(0)  # without waiting for threads of the client that are still busy


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()  # returns when the parent has ended
    os._exit(1)


def _answer(request: dict[str, Any]) -> Mapping[str, Any]:
    """Run the action of a request and return its result, or its error as an entry."""
    import warnings

    from huggingface_hub.utils import logging

    from pipelines.hub import client
    from pipelines.hub.address import Address
    from pipelines.hub.anchor import anchor, anchored
    from pipelines.hub.commit import commit
    from pipelines.hub.download import download
    from pipelines.hub.fill import fill
    from pipelines.hub.jobs import hardware, job_log, job_preflight, jobs, withdraw_jobs
    from pipelines.hub.preflight import preflight
    from pipelines.hub.upload import upload

    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=UserWarning, module="huggingface_hub")
    actions: dict[str, Callable[..., Mapping[str, Any]]]
    actions = {
        "preflight": preflight,
        "upload": upload,
        "download": download,
        "commit": commit,
        "fill": fill,
        "anchor": anchor,
        "anchored": anchored,
        "hardware": hardware,
        "job_preflight": job_preflight,
        "jobs": jobs,
        "withdraw_jobs": withdraw_jobs,
        "job_log": job_log,
    }
    patience, action = client.Patience.from_environment(), request.pop("action")
    where = str(Address(request["repo"], request["revision"])) if action == "download" else request["repo"]
    client.configure(patience)
    try:
        return actions[action](request, patience)
    except (UserError, RunFailed) as error:
        return _error_entry(error)
    except Exception as error:
        return _error_entry(client.in_words(error, where))


def _error_entry(error: UserError | RunFailed) -> dict[str, Any]:
    if isinstance(error, UserError):
        return {"user_error": [error.where, error.what, error.came, error.accepted]}
    return {"failed": str(error)}


if __name__ == "__main__":
    main()
