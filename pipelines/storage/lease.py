"""The lease on a run at a storage URL: a small object with its holder and the time, renewed while it is held.

Most stores cannot compare and swap, so this is no lock. A worker writes its lease, waits, and reads it again:
of two that start at once, the one whose lease was overwritten leaves. Where the store shows a write later
than that, both work until one of them renews and sees the other. That costs time and no bit: what they write
has other names, or the same content (`stored_run.py`).
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.storage.lock import Busy
from pipelines.storage.object_store import ObjectStore, StoreFailed

LEASE = "lease.json"
LEASE_SECONDS = 120.0  # without a renewal for so long, the holder counts as dead
RENEWAL_SECONDS = 20.0
SETTLE_SECONDS = 2.0  # until a store shows what was written to it
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Lease:
    """Who works on a run, and when that was last renewed, by the holder's clock."""

    holder: str
    host: str
    machine: str  # one boot of one machine, and one space of process ids on it
    pid: int
    started: str  # of that process
    time: float

    @property
    def is_fresh(self) -> bool:
        return abs(time.time() - self.time) < LEASE_SECONDS and not self.died_here

    @property
    def died_here(self) -> bool:
        """Whether the holder was a process of this machine that has ended."""
        return self.machine == _machine() and _started(self.pid) != self.started


@contextmanager
def held(
    store: ObjectStore, place: str, on_loss: Callable[[], None], look: Callable[[], None]
) -> Iterator[str]:
    """Hold the lease on a run during the block; yield the name of its holder.

    Args:
        place: below which the objects of the run are.
        on_loss: called (in a thread) when another worker has taken it.
        look: called (in a thread) at each renewal.

    Raises:
        Busy: another worker holds it.
        StoreFailed: the store does not answer.
    """
    name, mine = f"{place}/{LEASE}", secrets.token_hex(8)
    _take(store, name, mine)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWAL_SECONDS):
            with suppress(StoreFailed):  # it answers at a later renewal, or the lease runs out
                if is_lost(store, place, mine):
                    return on_loss()
                _write(store, name, mine)
                look()

    renewing = threading.Thread(target=renew, daemon=True, name="lease")
    renewing.start()
    try:
        yield mine
    finally:
        ended.set()
        renewing.join()
        with suppress(StoreFailed):  # then it runs out
            if not is_lost(store, place, mine):
                store.delete([name])


def is_lost(store: ObjectStore, place: str, holder: str) -> bool:
    """Return whether another worker has taken the lease of this holder.

    Raises:
        StoreFailed: the store does not answer.
    """
    found = _lease(store.read(f"{place}/{LEASE}"))
    return found is not None and found.holder != holder


def is_held(store: ObjectStore, place: str) -> bool:
    """Return whether a worker holds the lease on a run, by the clock of this machine.

    Raises:
        StoreFailed: the store does not answer.
    """
    found = _lease(store.read(f"{place}/{LEASE}"))
    return found is not None and found.is_fresh


def _take(store: ObjectStore, name: str, mine: str) -> None:
    before = store.read(name)
    if before is not None:
        found = _lease(before)
        if found is not None and found.is_fresh:
            raise Busy(f"{store.url}/{name}: process {found.pid} on {found.host} works on this run")
        if found is None or not found.died_here:
            _watch(store, name, before)  # clocks may differ: only a lease that stands still has run out
    _write(store, name, mine)
    time.sleep(SETTLE_SECONDS)
    if is_lost(store, name.removesuffix(f"/{LEASE}"), mine):
        raise Busy(f"{store.url}/{name}: another process has just begun to work on this run")


def _watch(store: ObjectStore, name: str, before: bytes) -> None:
    end = time.monotonic() + 2 * RENEWAL_SECONDS + SETTLE_SECONDS
    while time.monotonic() < end:
        time.sleep(min(POLL_SECONDS, RENEWAL_SECONDS))
        if store.read(name) not in (before, None):
            raise Busy(f"{store.url}/{name}: another process works on this run")


def _write(store: ObjectStore, name: str, mine: str) -> None:
    pid = os.getpid()
    lease = Lease(mine, socket.gethostname(), _machine(), pid, _started(pid), time.time())
    store.write(name, json.dumps(asdict(lease)).encode())


def _lease(content: bytes | None) -> Lease | None:
    """Return a lease; None where there is none, or what is there was cut."""
    try:
        return Lease(**json.loads(content)) if content is not None else None
    except (ValueError, TypeError):
        return None


def _machine() -> str:
    """Return what names this boot of this machine, and the space of process ids, which a container has."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: no holder counts as one of this machine
        return f"{socket.gethostname()} {secrets.token_hex(4)}"


def _started(pid: int) -> str:
    """Return when a process started, by its kernel's clock; "" where it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
