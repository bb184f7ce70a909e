"""One writer per run folder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import RunFailed


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
