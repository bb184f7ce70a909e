"""What a user without the right to write sees, for tests that root runs too."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION_3 = 0x20080522  # of the call capset


def give_up_root() -> None:
    """Take from this process the capabilities of root, to whom every file is open."""
    if os.geteuid() == 0:
        header, none = (ctypes.c_uint32 * 2)(VERSION_3, 0), (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None, use_errno=True).capset(header, none):
            raise OSError(ctypes.get_errno(), "capset")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take the right to write from every file and folder in a folder for a block."""
    before = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    for path, mode in before.items():
        path.chmod(mode & 0o555)
    yield
    for path, mode in before.items():
        path.chmod(mode)
