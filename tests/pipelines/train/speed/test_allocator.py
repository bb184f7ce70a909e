"""What a step frees stays with the process, so that the next step does not pay for it again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from pipelines.train.speed.allocator import LARGE

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
        ("", LARGE // 2, "", False),
        (KEEP, LARGE // 2, "", True),
        (KEEP, LARGE // 2, RETURN, False),
        (KEEP, LARGE * 2, "", True),
        (f"{KEEP}; allocator.return_large_blocks()", LARGE * 2, "", False),
        (f"{KEEP}; allocator.return_large_blocks()", LARGE // 2, "", True),
    ],
    ids=["not asked for", "kept", "returned later", "large ones kept", "large ones returned", "others kept"],
)
def test_freed_blocks_stay_with_the_process_once_asked_for(first, block, last, stays):
    script = CHILD.format(first=first, block=block, last=last)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert (int(done.stdout) > 8 * block) is stays
