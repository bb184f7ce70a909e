"""Memory that a training step frees stays with the process for the next step, which frees the same again.

glibc gives large blocks back to the system at once, and the system clears every page of them when they are
asked for again: a tenth to a sixth of a small model's step (docs/benchmarks.md). Peak memory is the same.
"""

from __future__ import annotations

import ctypes
import platform

# Names and numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = 2**31 - 1  # bytes free at the heap's end before they are given back


def keep_freed_memory() -> None:
    """Tell the C library to keep what is freed. Nothing happens where it is not glibc."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)
