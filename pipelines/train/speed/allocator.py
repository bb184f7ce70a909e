"""Keep the memory that a training step frees, so that the next step can use it again.

glibc returns large blocks to the system at once, and the system clears every page of them when they are
allocated again: a tenth to a sixth of a small model's step (docs/benchmarks.md). The largest blocks are few,
and holes of their size would stay unused, so they are still returned.
"""

from __future__ import annotations

import ctypes
import platform

# Names and numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = 2**31 - 1  # free bytes at the end of the heap before they are returned to the system
LARGEST_KEPT = 2**23  # bytes of a block; to return smaller ones costs time (docs/benchmarks.md)


def keep_freed_memory() -> None:
    """Set glibc to keep freed memory; with another C library this does nothing."""
    if libc := _glibc():
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)


def return_freed_memory() -> None:
    """Return what is free now to the system: what was needed to prepare does not fit what training needs."""
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
