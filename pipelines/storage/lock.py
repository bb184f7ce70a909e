"""A lock for one process at a time in a folder, on all machines that share the folder."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from pipelines.errors import RunFailed

LEASE_SECONDS = 60.0  # a holder on another machine without a heartbeat for so long counts as dead
HEARTBEAT_SECONDS = 10.0  # between two heartbeats of a holder
POLL_SECONDS = 0.5


READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


class Busy(Exception):
    """Another process holds the lock; the message says which."""


class ReadOnly(RunFailed):
    """The lock file cannot be created, because this process may not write there."""


@contextmanager
def lock(path: Path, *, wait: bool = False, on_loss: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock that needs only exclusive creation of a file from the file system.

    Kernel locks do not work across machines on many clusters: NFS mounted with `nolock` and Lustre with
    `localflock` grant the lock once on each machine, without an error. This lock is a file that its holder
    creates exclusively and touches every few seconds (`filelock.SoftFileLease`). A holder that died on this
    machine is detected at once, by its process id, its start time and the boot of the machine; one on another
    machine when its file has not changed for a minute by the local clock, so that clocks are not compared.

    Args:
        wait: wait as long as another process holds the lock, instead of raising `Busy`. A holder on another
            machine that seems dead is waited for in any case, at most a minute, until it is sure.
        on_loss: called (in a thread) when this process was suspended so long that another took the lock.

    Raises:
        Busy: another process holds it and `wait` is false.
        ReadOnly: this process may not write there.
        RunFailed: the lock file cannot be created for another reason.
    """
    lease = _lease(path, on_loss)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        timeout = -1 if wait else _seconds_to_wait(lease)
        lease.acquire(timeout=timeout, poll_interval=POLL_SECONDS if timeout else 0.05)
    except (Timeout, LeaseSettingsMismatch) as error:  # LeaseSettingsMismatch: held by another version
        raise Busy(f"{path.parent} is in use by {_holder_name(lease)}") from error
    except OSError as error:
        kind = ReadOnly if error.errno in READ_ONLY else RunFailed
        raise kind(f"{path}: this folder cannot be locked ({error})") from error
    try:
        yield
    finally:
        lease.release()


def is_held(path: Path) -> bool:
    """Return whether a process on any machine holds the lock on a file, without taking the lock.

    Unlike `lock`, it compares the clock of this machine with that of the file system: where they differ by a
    minute, it may report a live holder on another machine as dead.
    """
    age = _heartbeat_age(path)
    return age is not None and age < LEASE_SECONDS and not _died_on_this_machine(_lease(path))


def holder(path: Path) -> str:
    """Return who holds the lock on a file, in words."""
    return _holder_name(_lease(path))


def _lease(path: Path, on_loss: Callable[[], None] | None = None) -> SoftFileLease:
    return SoftFileLease(
        path,
        lease_duration=LEASE_SECONDS,
        heartbeat_interval=HEARTBEAT_SECONDS,
        on_compromise=(lambda _: on_loss()) if on_loss else None,
    )


def _seconds_to_wait(lease: SoftFileLease) -> float:
    """Return the seconds to wait: 0, except for a holder on another machine that missed heartbeats."""
    age = _heartbeat_age(Path(lease.lock_file))
    if age is None or age < 3 * HEARTBEAT_SECONDS or _died_on_this_machine(lease):
        return 0.0
    return LEASE_SECONDS + HEARTBEAT_SECONDS


def _heartbeat_age(path: Path) -> float | None:
    """Return the seconds since the last heartbeat of the holder; None where there is no holder."""
    try:
        with open(path, "rb") as file:  # NFS asks the server for fresh attributes when a file is opened
            return time.time() - os.fstat(file.fileno()).st_mtime
    except OSError:
        return None


def _died_on_this_machine(lease: SoftFileLease) -> bool:
    """Return whether the holder was a process of this machine that has ended."""
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


def _holder_name(lease: SoftFileLease) -> str:
    owner = lease.owner
    return f"process {owner.pid} on {owner.hostname.partition('?')[0]}" if owner else "another process"
