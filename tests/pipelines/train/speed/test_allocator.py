"""What a step frees stays with the process, so that the next step does not pay for it again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

BLOCK = 64 << 20
CHILD = """
import os, sys
import numpy
{first}
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before = resident()
block = numpy.ones({block}, dtype=numpy.uint8)
del block
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt belongs to glibc")
@pytest.mark.parametrize(
    ("first", "stays"),
    [
        ("", False),
        ("from pipelines.train.speed.allocator import keep_freed_memory; keep_freed_memory()", True),
    ],
)
def test_a_large_block_that_was_freed_stays_with_the_process_once_asked_for(first, stays):
    script = CHILD.format(first=first, block=BLOCK)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert (int(done.stdout) > BLOCK // 2) is stays
