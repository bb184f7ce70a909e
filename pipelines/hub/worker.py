"""The one process that talks to the Hub: `python -m pipelines.hub.worker`, a request in, an answer out.

A client library that hangs for ever cannot hang its caller: `ask` gives the process a deadline. It imports
neither torch nor transformers, and ends when the process that started it does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any

from pipelines.errors import RunFailed, UserError

SLOWEST_LINE = 50_000  # bytes per second; a slower one is taken for a hang


def ask(action: str, request: dict[str, Any], *, num_bytes: int | None = 0) -> dict[str, Any]:
    """Have the Hub asked for something in a process of its own; what `action` of `pipelines.hub` answers.

    Every text of the request is searched for secrets and local paths first: this is the only door.

    Args:
        action: "preflight", "upload" or "download".
        request: JSON-able, and each `Path` in it stays on this machine.
        num_bytes: how much is to travel, which makes the deadline; None: not known, so there is none.

    Raises:
        UserError: the request holds a secret; or as the action found.
        RunFailed: as the action found, or the deadline has passed.
    """
    from pipelines.hub import secrets
    from pipelines.hub.client import Patience

    secrets.refuse_request(request)
    patience = Patience.of_user()
    deadline = None if num_bytes is None else 6 * patience.seconds + num_bytes / SLOWEST_LINE
    command = [sys.executable, "-m", "pipelines.hub.worker"]
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} if not sys.stderr.isatty() else {}
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | quiet, start_new_session=True
    )
    watchdog = threading.Timer(deadline or threading.TIMEOUT_MAX, child.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        child.stdin.write(json.dumps({"action": action, **request}, default=str).encode() + b"\n")
        child.stdin.flush()  # and stays open: its end tells the child that we are gone
        answer = child.stdout.read()
        child.wait()
    except BaseException:
        child.kill()
        child.wait()
        raise
    finally:
        watchdog.cancel()
        child.stdin.close()
        child.stdout.close()
    if not answer:
        late = (
            f"no answer within {deadline:.0f} s" if child.returncode == -9 else f"status {child.returncode}"
        )
        raise RunFailed(
            f"{request.get('repo', 'the Hub')}: talking to the Hub ended without a result ({late})"
        )
    return _opened(json.loads(answer))


def _opened(answer: dict[str, Any]) -> dict[str, Any]:
    if "user_error" in answer:
        raise UserError(*answer["user_error"])
    if "failed" in answer:
        raise RunFailed(answer["failed"])
    return answer


def main() -> None:
    """Read one request, write one answer."""
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    answer_to = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    answer_to.write(json.dumps(_answer(request)).encode())
    answer_to.flush()
    os._exit(0)  # not a word from threads that are still busy


def _leave_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    import warnings

    from huggingface_hub.utils import logging

    from pipelines.hub import client, download, preflight, upload
    from pipelines.hub.address import Address

    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=UserWarning, module="huggingface_hub")
    actions = {"preflight": preflight.answer, "upload": upload.answer, "download": download.answer}
    patience, action = client.Patience.of_user(), request.pop("action")
    where = str(Address(request["repo"], request["revision"])) if action == "download" else request["repo"]
    client.set_up(patience)
    try:
        return actions[action](request, patience)
    except UserError as error:
        return {"user_error": [error.where, error.what, error.came, error.accepted]}
    except RunFailed as error:
        return {"failed": str(error)}
    except Exception as error:
        refused = client.refusal(error, where)
        if isinstance(refused, UserError):
            return {"user_error": [refused.where, refused.what, refused.came, refused.accepted]}
        return {"failed": str(refused)}


if __name__ == "__main__":
    main()
