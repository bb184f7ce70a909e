"""One writer per run folder."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import RunFailed

# How the kernel lays out `struct flock`, and where in it the type of a lock stands.
FLOCK = {"linux": ("hhqqi4x", 0), "darwin": ("qqihh", 3)}


class Busy(Exception):
    """Another process holds the lock; the message says which."""


@contextmanager
def lock(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive POSIX lock on a file, which the kernel drops when the process dies.

    POSIX record locks also work on NFS where its lock service runs; where it does not, the file system
    says so and the run refuses to start rather than risk two writers.

    Raises:
        Busy: somebody else holds it and `wait` is false.
        RunFailed: this file system cannot lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            holder = path.read_text(encoding="utf-8").strip() or "another process"
            raise Busy(f"{path.parent} is in use by {holder}") from error
        except OSError as error:
            raise RunFailed(f"{path}: this file system cannot lock files ({error})") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether another process holds the lock on a file: asked of the kernel, without taking the lock.

    False where there is no such file, and where the system cannot be asked. A process that asks about a
    lock of its own hears False and drops it, as POSIX has it: only onlookers ask.
    """
    layout, place = FLOCK.get(sys.platform, (None, 0))
    if layout is None or not path.exists():
        return False
    fields = [0] * 5
    fields[place] = fcntl.F_WRLCK
    with open(path, "rb") as file:
        try:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(layout, *fields))
        except OSError:  # a file system without locks
            return False
    return struct.unpack(layout, answer)[place] != fcntl.F_UNLCK
