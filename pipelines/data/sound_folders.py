"""Folders of sounds, local or on the Hub, read by `datasets` without torchcodec.

`datasets` (5.2) needs torchcodec, and with it FFmpeg, even to store the path of a sound. Here only the path
is needed, because the task decodes sounds with soundfile.
"""

from __future__ import annotations

from typing import Any

from datasets import Audio
from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder


class SoundFile(Audio):
    """A sound given by its path, as in a folder; any other value is encoded by `datasets`."""

    def encode_example(self, value: Any) -> dict[str, Any]:
        return {"bytes": None, "path": value} if isinstance(value, str) else super().encode_example(value)


def read_by_path() -> None:
    """Make `datasets` read folders of sounds as paths, in this process from now on."""
    AudioFolder.BASE_FEATURE = SoundFile
