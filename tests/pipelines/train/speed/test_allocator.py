"""What a step frees stays with the process, so that the next step does not pay for it again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from pipelines.train.speed.allocator import LARGEST_KEPT

KEEP = "from pipelines.train.speed import allocator; allocator.keep_freed_memory()"
RETURN = "allocator.return_freed_memory()"
CHILD = """
import os, sys
import numpy
{first}
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before = resident()
blocks = [numpy.ones({block}, dtype=numpy.uint8) for _ in range(16)]
del blocks
{last}
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt belongs to glibc")
@pytest.mark.parametrize(
    ("first", "block", "last", "stays"),
    [
        ("", LARGEST_KEPT // 2, "", False),
        (KEEP, LARGEST_KEPT // 2, "", True),
        (KEEP, LARGEST_KEPT // 2, RETURN, False),
        (KEEP, LARGEST_KEPT * 2, "", False),
    ],
    ids=["not asked for", "kept", "returned later", "too large"],
)
def test_freed_blocks_stay_with_the_process_once_asked_for(first, block, last, stays):
    script = CHILD.format(first=first, block=block, last=last)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert (int(done.stdout) > 8 * block) is stays
