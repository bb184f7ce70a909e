"""Keep the memory that a training step frees, so that the next step can use it again.

glibc returns large blocks to the system at once, and the system clears every page of them when they are
allocated again: a tenth to a sixth of a small model's step (docs/benchmarks.md). Peak memory is the same.
"""

from __future__ import annotations

import ctypes
import platform

# Names and numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = 2**31 - 1  # free bytes at the end of the heap before they are returned to the system


def keep_freed_memory() -> None:
    """Set glibc to keep freed memory; with another C library this does nothing."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)
