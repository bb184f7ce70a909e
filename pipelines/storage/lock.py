"""One writer per run folder, on every machine that sees the folder."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from pipelines.errors import RunFailed

LEASE_SECONDS = 60.0  # a holder on another machine that was not heard of for so long is gone
BEAT_SECONDS = 10.0  # how often a holder is heard of
SECONDS_BETWEEN_LOOKS = 0.5


class Busy(Exception):
    """Another process holds the lock; the message says which."""


@contextmanager
def lock(path: Path, *, wait: bool = False, on_loss: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock that needs nothing of a file system but that a file can be created by one process alone.

    Kernel locks do not reach from machine to machine on many clusters: NFS mounted with `nolock` and Lustre
    with `localflock` grant one to each machine and say nothing. This one is a file that its holder creates
    exclusively and touches every few seconds (`filelock.SoftFileLease`). A holder that died on this machine
    is noticed at once, by its process id, start time and the machine's boot; one on another machine when its
    file has not changed for a minute of our own clock, so that no two clocks are compared.

    Args:
        wait: wait for as long as somebody else holds it, instead of raising `Busy`. A holder elsewhere that
            seems to have died is waited for in any case, at most a minute, until that is sure.
        on_loss: called (in a thread) when this process did not answer for so long that another took the lock.

    Raises:
        Busy: somebody else holds it and `wait` is false.
        RunFailed: no file can be created here.
    """
    lease = _lease(path, on_loss)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        patience = -1 if wait else _patience(lease)
        lease.acquire(timeout=patience, poll_interval=SECONDS_BETWEEN_LOOKS if patience else 0.05)
    except (Timeout, LeaseSettingsMismatch) as error:  # the latter: held by another version of attnlab
        raise Busy(f"{path.parent} is in use by {_shown(lease)}") from error
    except OSError as error:
        raise RunFailed(f"{path}: this folder cannot be locked ({error})") from error
    try:
        yield
    finally:
        lease.release()


def is_held(path: Path) -> bool:
    """Whether a process, here or elsewhere, holds the lock on a file; asked without taking the lock.

    Unlike `lock` it compares the clock of this machine with that of the file system: where they are a minute
    apart, it may take a holder on another machine for dead.
    """
    age = _silence(path)
    return age is not None and age < LEASE_SECONDS and not _died_here(_lease(path))


def _lease(path: Path, on_loss: Callable[[], None] | None = None) -> SoftFileLease:
    return SoftFileLease(
        path,
        lease_duration=LEASE_SECONDS,
        heartbeat_interval=BEAT_SECONDS,
        on_compromise=(lambda _: on_loss()) if on_loss else None,
    )


def _patience(lease: SoftFileLease) -> float:
    """Seconds to wait for a holder: none, unless it is one elsewhere that has missed its beats."""
    age = _silence(Path(lease.lock_file))
    if age is None or age < 3 * BEAT_SECONDS or _died_here(lease):
        return 0.0
    return LEASE_SECONDS + BEAT_SECONDS


def _silence(path: Path) -> float | None:
    """Seconds since the holder was last heard of; None where there is no holder."""
    try:
        with open(path, "rb") as file:  # NFS asks the server for fresh attributes when a file is opened
            return time.time() - os.fstat(file.fileno()).st_mtime
    except OSError:
        return None


def _died_here(lease: SoftFileLease) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    owner = lease.owner
    if owner is None or owner.hostname.partition("?")[0] != socket.gethostname():
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _shown(lease: SoftFileLease) -> str:
    owner = lease.owner
    return f"process {owner.pid} on {owner.hostname.partition('?')[0]}" if owner else "another process"
