"""The Hub's client with a bounded wait: timeouts, one retry policy, refusals in the user's words.

The client's own backoff covers some requests and not others, has no timeout, sleeps for as long as a server
asks, and may repeat a commit whose answer was lost. So an answer that is worth a retry never reaches it: it
leaves the HTTP layer as `Unavailable`, and `retried` repeats whole steps, each of which first looks at the
state of the Hub. Only file contents (PUT) stay with the client, which can rewind them.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
from huggingface_hub import get_session, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from pipelines.errors import RunFailed, UserError
from pipelines.shown import printable

RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)
# Storage answers 400 to bytes that changed on the way, and 403 to an upload address that has expired.
RETRIED_PUT_STATUSES = (400, 403)
BUSY_CREATING = "another conflicting operation is in progress"  # a 409 that the client repeats without end
LOG_IN = "log in with hf auth login, or set HF_TOKEN to a token that may write"
Result = TypeVar("Result")


class Unavailable(Exception):
    """The Hub cannot be reached or cannot answer now.

    Args:
        reason: a clause, such as "it answers 503".
        after: the seconds to wait that the server asks for; None where it asks for none.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        self.reason, self.after = reason, after
        super().__init__(reason)


@dataclass(frozen=True)
class Patience:
    """How long to wait for the Hub: every limit follows from `seconds`, the longest time without success."""

    seconds: float = 300.0

    @classmethod
    def from_environment(cls) -> Patience:
        """Return the patience that `ATTNLAB_HUB_PATIENCE` sets, in seconds.

        Raises:
            UserError: the variable does not hold a positive number.
        """
        text = os.environ.get("ATTNLAB_HUB_PATIENCE", str(cls.seconds))
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise UserError("ATTNLAB_HUB_PATIENCE", "is not a number of seconds", text, "a number above 0")
        return cls(seconds)

    @property
    def timeout(self) -> float:
        """Seconds without a byte after which a request is given up (default: a minute)."""
        return self.seconds / 5

    @property
    def first_wait(self) -> float:
        """Seconds before the first retry (default: one)."""
        return self.seconds / 300

    @property
    def longest_wait(self) -> float:
        """Seconds before a retry at most, even if a server asks for more (default: half a minute)."""
        return self.seconds / 10


class _Client(httpx2.Client):
    """An HTTP client that raises `Unavailable` for every answer that is worth a retry."""

    longest_wait: float

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        # The Hub's client asks for some answers with `timeout=None`, which means without a limit.
        limits = request.extensions.get("timeout", {})
        bounded = {name: limits.get(name) or limit for name, limit in self.timeout.as_dict().items()}
        request.extensions = {**request.extensions, "timeout": bounded}
        if request.method == "PUT":
            return self._with_short_wait(super().send(request, **options))
        try:
            response = super().send(request, **options)
        except httpx2.TransportError as error:
            raise Unavailable(f"{type(error).__name__} at {request.url.host}") from error
        conflict = response.status_code == 409 and BUSY_CREATING in response.read().decode(errors="replace")
        if response.status_code in RETRIED_STATUSES or conflict:
            response.close()
            raise Unavailable(f"it answers {response.status_code}", _retry_after(response.headers))
        return response

    def _with_short_wait(self, response: httpx2.Response) -> httpx2.Response:
        """Bound the wait that a response asks for: the Hub's client obeys it without a limit."""
        asked = _retry_after(response.headers)
        for name in ("RateLimit", "Retry-After"):
            response.headers.pop(name, None)
        if asked is not None:
            response.headers["Retry-After"] = str(int(min(asked, self.longest_wait)))
        return response


def _retry_after(headers: httpx2.Headers) -> float | None:
    text = headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def configure(patience: Patience) -> None:
    """Make the Hub's client of this process use our timeouts and raise `Unavailable`."""
    hooks = get_session().event_hooks  # of the Hub's own client: they refuse requests in offline mode

    def build() -> httpx2.Client:
        timeout = httpx2.Timeout(patience.timeout)
        client = _Client(event_hooks=hooks, follow_redirects=True, timeout=timeout)
        client.longest_wait = patience.longest_wait
        return client

    set_client_factory(build)


def retried(step: str, call: Callable[[], Result], patience: Patience) -> Result:
    """Return `call()`, repeated with growing random waits while the Hub is unavailable.

    The time before the first failure does not count: an upload may take hours before its connection breaks.

    Args:
        step: what `call` does, for messages: "uploading".

    Raises:
        RunFailed: the Hub stayed unavailable for `patience.seconds`.
    """
    failing_since, wait = None, patience.first_wait
    while True:
        try:
            return call()
        except Exception as error:
            unavailable = worth_a_retry(error)
            if unavailable is None:
                raise
            # The random factor keeps the clients of one cluster from asking at the same moments.
            pause = min(max(wait, unavailable.after or 0), patience.longest_wait) * random.uniform(0.75, 1.25)
            failing_since = failing_since or time.monotonic()
            waited = time.monotonic() - failing_since
            if waited + pause > patience.seconds:
                what = f"the Hub was unavailable for {waited:.0f} s while {step}: {unavailable.reason}"
                raise RunFailed(what) from error
            print(
                printable(f"{step}: {unavailable.reason}; again in {pause:.0f} s"),
                file=sys.stderr,
                flush=True,
            )
            time.sleep(pause)
            wait = min(2 * wait, patience.longest_wait)


def worth_a_retry(error: BaseException) -> Unavailable | None:
    """Return why the client failed if it is worth a retry; the client and hf_xet wrap their errors."""
    for cause in _causes(error):
        if isinstance(cause, OfflineModeIsEnabled):  # a ConnectionError, but the user asked for it
            return None
        if isinstance(cause, Unavailable):
            return cause
        if isinstance(cause, HfHubHTTPError):
            response = cause.response
            if response.status_code in RETRIED_STATUSES:
                return Unavailable(f"it answers {response.status_code}", _retry_after(response.headers))
            if response.status_code in RETRIED_PUT_STATUSES and response.request.method == "PUT":
                return Unavailable(f"its storage answers {response.status_code}")
        if isinstance(cause, httpx2.TransportError | ConnectionError):
            return Unavailable(f"{type(cause).__name__}")
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def in_words(error: Exception, repo: str) -> UserError | RunFailed:
    """Return an error of the Hub or of its client as a sentence for the user."""
    if isinstance(error, ValueError) and "metadata" in str(error):
        return card_refused(repo, str(error))
    for cause in _causes(error):
        if isinstance(cause, HfHubHTTPError):
            return _status_in_words(cause, repo)
        if isinstance(cause, OfflineModeIsEnabled):
            return UserError(repo, "HF_HUB_OFFLINE is set, so the Hub is not asked", accepted="unset it")
    return RunFailed(f"{repo}: {type(error).__name__}: {' '.join(str(error).split())}")


def card_refused(repo: str, answer: str) -> UserError:
    """Return the error of a card that the Hub refuses; `answer` is its reason, as text or as JSON."""
    try:
        reason = "; ".join(entry["message"] for entry in json.loads(answer)["errors"])
    except (ValueError, KeyError, TypeError):
        reason = " ".join(answer.split())
    return UserError(f"{repo}, README.md", "the Hub does not accept the card", reason)


def _status_in_words(error: HfHubHTTPError, repo: str) -> UserError | RunFailed:
    status = error.response.status_code
    reason = error.server_message or error.response.reason_phrase
    if status == 401:
        return UserError(repo, "the Hub does not accept this token (401)", accepted=LOG_IN)
    if status == 402:
        return UserError(repo, f"the Hub asks for a plan that allows this (402): {reason}")
    if status == 403:
        what = f"this token may not write there (403): {reason}"
        return UserError(repo, what, accepted="use a token with write access to it, or another ORG/NAME")
    if status == 404:
        what = "there is no such repository or revision on the Hub, or this token may not see it (404)"
        return UserError(repo, what, accepted="check ORG/NAME and the token")
    if status in (409, 412):
        return RunFailed(f"{repo}: somebody else changed the repository meanwhile ({status}: {reason})")
    return RunFailed(f"{repo}: the Hub refuses ({status}: {reason})")
