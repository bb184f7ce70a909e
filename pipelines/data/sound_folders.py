"""Folders of sounds, here or on the Hub, read by `datasets` without torchcodec.

`datasets` (5.2) wants torchcodec, and so FFmpeg, even to note where a sound stands. We decode sounds by
soundfile and need no more than that.
"""

from __future__ import annotations

from typing import Any

from datasets import Audio
from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder


class SoundFile(Audio):
    """A sound at a path, which is all that a folder tells; anything else goes the way of `datasets`."""

    def encode_example(self, value: Any) -> dict[str, Any]:
        return {"bytes": None, "path": value} if isinstance(value, str) else super().encode_example(value)


def read_by_path() -> None:
    """From now on, folders of sounds give the paths of their files."""
    AudioFolder.BASE_FEATURE = SoundFile
