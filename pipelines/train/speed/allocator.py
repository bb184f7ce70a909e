"""Keep the memory that a training step frees, so that the next step can use it again.

glibc returns large blocks to the system at once, and the system clears every page of them when they are
allocated again: a tenth to a sixth of a small model's step (docs/benchmarks.md). Where inputs are so long
that each is a micro-batch of its own, the blocks of one do not fit another's, and holes would add up.
"""

from __future__ import annotations

import ctypes
import platform

# Names and numbers of glibc's malloc.h, and its own number of blocks that the system gives one by one.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
MANY = 65536
NEVER = 2**31 - 1  # free bytes at the end of the heap before they are returned to the system
LARGE = 2**23  # bytes of a block that is returned where inputs are long


def keep_freed_memory() -> None:
    """Set glibc to keep freed memory; with another C library this does nothing."""
    if libc := _glibc():
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)


def return_large_blocks() -> None:
    """Set glibc to return large blocks when they are freed."""
    if libc := _glibc():
        libc.mallopt(M_MMAP_MAX, MANY)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE)


def return_freed_memory() -> None:
    """Return what is free now to the system: what was needed to prepare does not fit what training needs."""
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
