"""A full disk is one sentence, whichever library finds it."""

from __future__ import annotations

import errno

import pytest

from pipelines.errors import RunFailed
from pipelines.publish import staging

FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    Exception("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
]


@pytest.mark.parametrize("error", FULL, ids=["system", "safetensors"])
def test_a_push_that_finds_the_disk_full_says_so(tmp_path, error):
    said = "cannot hold the files to push .No space left on device.; the run is unchanged"
    with pytest.raises(RunFailed, match=said), staging._disk_errors_in_words(tmp_path / "org--name"):
        raise error


def test_another_error_is_not_called_a_full_disk(tmp_path):
    with pytest.raises(ValueError, match="shape"), staging._disk_errors_in_words(tmp_path):
        raise ValueError("another shape")
