"""The Hub's client with patience that has an end: timeouts, one retry policy, refusals in the user's words.

The client's own backoff covers some requests and not others, has no timeout, sleeps for as long as a server
says, and may repeat a commit whose answer was lost. So an answer that is worth a retry never reaches it: it
leaves the HTTP layer as `Unavailable`, and `retried` repeats whole steps, each of which looks first at what
is there already. Only file contents (PUT) stay with the client, which can rewind them.
"""

from __future__ import annotations

import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import httpx2
from huggingface_hub import set_client_factory
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils._http import hf_request_event_hook

from pipelines.errors import RunFailed, UserError

WORTH_A_RETRY = (408, 429, 500, 502, 503, 504)
STORED_ANEW = (400, 403)  # what storage says to bytes that changed on the way, and to an address that is old
BUSY_CREATING = "another conflicting operation is in progress"  # a 409 that the client asks again for ever
LOG_IN = "log in with hf auth login, or set HF_TOKEN to a token that may write"
Result = TypeVar("Result")


class Unavailable(Exception):
    """The Hub cannot be reached or cannot answer now; `after`: the seconds it asks to be left alone."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        self.reason, self.after = reason, after
        super().__init__(reason)


@dataclass(frozen=True)
class Patience:
    """How long to wait for the Hub: every limit follows from how long a step may go without success."""

    seconds: float = 300.0

    @classmethod
    def of_user(cls) -> Patience:
        """As `ATTNLAB_HUB_PATIENCE` says, in seconds.

        Raises:
            UserError: it is no such number.
        """
        text = os.environ.get("ATTNLAB_HUB_PATIENCE", str(cls.seconds))
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise UserError("ATTNLAB_HUB_PATIENCE", "is no number of seconds", text, "a number above 0")
        return cls(seconds)

    @property
    def timeout(self) -> float:
        """Seconds without a byte after which a request is given up: a minute."""
        return self.seconds / 5

    @property
    def first_wait(self) -> float:
        return self.seconds / 300

    @property
    def longest_wait(self) -> float:
        """Whatever a server asks for: half a minute."""
        return self.seconds / 10


class _Client(httpx2.Client):
    """Turns what is worth a retry into `Unavailable`."""

    longest_wait: float

    def send(self, request: httpx2.Request, **options) -> httpx2.Response:
        if request.method == "PUT":
            return self._capped(super().send(request, **options))
        try:
            response = super().send(request, **options)
        except httpx2.TransportError as error:
            raise Unavailable(f"{type(error).__name__} at {request.url.host}") from error
        conflict = response.status_code == 409 and BUSY_CREATING in response.read().decode(errors="replace")
        if response.status_code in WORTH_A_RETRY or conflict:
            response.close()
            raise Unavailable(f"it answers {response.status_code}", _seconds(response.headers))
        return response

    def _capped(self, response: httpx2.Response) -> httpx2.Response:
        """Let no server keep the client's own backoff asleep."""
        asked = _seconds(response.headers)
        for name in ("RateLimit", "Retry-After"):
            response.headers.pop(name, None)
        if asked is not None:
            response.headers["Retry-After"] = str(int(min(asked, self.longest_wait)))
        return response


def _seconds(headers: httpx2.Headers) -> float | None:
    text = headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def set_up(patience: Patience) -> None:
    """Give the Hub's client timeouts, and our idea of what is worth a retry."""

    def build() -> httpx2.Client:
        client = _Client(
            event_hooks={"request": [hf_request_event_hook]},
            follow_redirects=True,
            timeout=httpx2.Timeout(patience.timeout),
        )
        client.longest_wait = patience.longest_wait
        return client

    set_client_factory(build)


def retried(step: str, call: Callable[[], Result], patience: Patience) -> Result:
    """`call()`, again and again while the Hub is unavailable, with growing waits that no two clients share.

    The time before the first failure does not count: an upload may take hours before its line breaks.

    Raises:
        RunFailed: it stayed unavailable for `patience.seconds`.
    """
    failing_since, wait = None, patience.first_wait
    while True:
        try:
            return call()
        except Exception as error:
            unavailable = _unavailable(error)
            if unavailable is None:
                raise
            pause = min(max(wait, unavailable.after or 0), patience.longest_wait) * random.uniform(0.75, 1.25)
            failing_since = failing_since or time.monotonic()
            waited = time.monotonic() - failing_since
            if waited + pause > patience.seconds:
                what = f"the Hub was unavailable for {waited:.0f} s while {step}: {unavailable.reason}"
                raise RunFailed(what) from error
            print(f"{step}: {unavailable.reason}; again in {pause:.0f} s", file=sys.stderr, flush=True)
            time.sleep(pause)
            wait = min(2 * wait, patience.longest_wait)


def _unavailable(error: BaseException) -> Unavailable | None:
    """What made the client fail, if it is worth a retry; it wraps its errors, and hf_xet has its own."""
    for cause in _causes(error):
        if isinstance(cause, OfflineModeIsEnabled):  # a ConnectionError, and a wish of the user's
            return None
        if isinstance(cause, Unavailable):
            return cause
        if isinstance(cause, HfHubHTTPError):
            response = cause.response
            if response.status_code in WORTH_A_RETRY:
                return Unavailable(f"it answers {response.status_code}", _seconds(response.headers))
            if response.status_code in STORED_ANEW and response.request.method == "PUT":
                return Unavailable(f"its storage answers {response.status_code}")
        if isinstance(cause, httpx2.TransportError | ConnectionError):
            return Unavailable(f"{type(cause).__name__}")
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def refusal(error: Exception, repo: str) -> Exception:
    """What the user is told when the Hub says no, or the client itself does."""
    if isinstance(error, ValueError) and "metadata" in str(error):
        return UserError(
            f"{repo}, README.md", "the Hub does not accept the card", " ".join(str(error).split())
        )
    for cause in _causes(error):
        if isinstance(cause, HfHubHTTPError):
            return _refused(cause, repo)
        if isinstance(cause, OfflineModeIsEnabled):
            return UserError(repo, "HF_HUB_OFFLINE is set, so the Hub is not asked", accepted="unset it")
    return RunFailed(f"{repo}: {type(error).__name__}: {' '.join(str(error).split())}")


def _refused(error: HfHubHTTPError, repo: str) -> Exception:
    status = error.response.status_code
    said = error.server_message or error.response.reason_phrase
    if status == 401:
        return UserError(repo, "the Hub does not accept this token (401)", accepted=LOG_IN)
    if status == 402:
        return UserError(repo, f"the Hub asks for a plan that allows this (402): {said}")
    if status == 403:
        what = f"this token may not write there (403): {said}"
        return UserError(repo, what, accepted="use a token with write access to it, or another ORG/NAME")
    if status == 404:
        what = "there is no such repository or revision on the Hub, or this token may not see it (404)"
        return UserError(repo, what, accepted="check ORG/NAME and the token")
    if status in (409, 412):
        return RunFailed(f"{repo}: somebody else changed the repository meanwhile ({status}: {said})")
    return RunFailed(f"{repo}: the Hub refuses ({status}: {said})")
