"""One label for a sound (Audio Spectrogram Transformer, Wav2Vec2 and their kin)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from math import gcd
from typing import Any, ClassVar

import numpy as np
from scipy.signal import resample_poly

from pipelines.errors import UserError
from pipelines.tasks.base import Column
from pipelines.tasks.shared.media_classification import MediaClassification


class AudioClassification(MediaClassification):
    """Choose one of a few labels for a sound.

    Channels are averaged, the sound is resampled to the rate of the model's own feature extractor, and cut or
    filled with silence to `seconds`: what is heard of a clip never depends on what else is in its batch.
    Clips that were cut are counted in `counts`. Needs soundfile, which reads WAV, FLAC, OGG and MP3.

    Args:
        seconds: what is heard of every clip.
        labels: names of the labels, where the data has numbers (0 is the first), or to allow labels that
            train does not have; None: those of the train split.
    """

    reads: ClassVar[str] = "audio"
    medium: ClassVar[str] = "audio"
    head: ClassVar[str] = "audio_classification"
    columns: ClassVar[Mapping[str, Column]] = {
        "audio": Column("audio", "the sound, as bytes or the path of a file"),
        "label": Column("label", "the label, a text or a number with a name", is_target=True),
    }

    def __init__(self, seconds: float = 10.0, labels: list[str] | None = None) -> None:
        super().__init__(labels)
        if seconds < 0.1:
            raise UserError("task.seconds", "is too short to hear anything", seconds, "at least 0.1")
        self.seconds = seconds

    def decode(self, content: bytes) -> Any:
        from soundfile import LibsndfileError, SoundFile

        try:
            file = SoundFile(io.BytesIO(content))
        except LibsndfileError as error:
            raise ValueError(f"it is in no format that soundfile knows ({error.error_string})") from error
        if not file.frames:
            raise ValueError("it has no samples")
        return file

    def bind(self, processor: Any, family: str) -> None:
        super().bind(processor, family)
        self._num_samples = round(self.seconds * processor.sampling_rate)
        waves = np.random.default_rng(0).standard_normal((2, self._num_samples)).astype(np.float32) / 9
        waves[1, : -self._num_samples // 10] = waves[0, : -self._num_samples // 10]
        one, other = (self._heard(wave) for wave in waves)
        if all(np.array_equal(one[name], other[name]) for name in one):
            what = "is longer than what the model's feature extractor hears of a clip"
            raise UserError("task.seconds", what, self.seconds, "a smaller number, or a larger max_length")

    def arrays(self, content: bytes) -> dict[str, np.ndarray]:
        """What the feature extractor makes of one clip: a wave or a spectrogram, and a mask if it has one."""
        file = self.decode(content)
        wave = file.read(dtype="float32", always_2d=True).mean(axis=1)
        wanted, there = self.processor.sampling_rate, file.samplerate
        if wanted != there:
            wave = resample_poly(wave, wanted // gcd(wanted, there), there // gcd(wanted, there))
        self.counts["examples_cut"] += len(wave) > self._num_samples
        return self._heard(wave[: self._num_samples].astype(np.float32))

    def _heard(self, wave: np.ndarray) -> dict[str, np.ndarray]:
        """Of at most `seconds`, filled up to them as the feature extractor does."""
        shortest = self.processor.sampling_rate // 10  # a window of a spectrogram must fit in
        wave = np.pad(wave, (0, max(0, shortest - len(wave))))
        made = self.processor(
            wave,
            sampling_rate=self.processor.sampling_rate,
            padding="max_length",
            max_length=self._num_samples,
            return_tensors="np",
        )
        return {name: np.ascontiguousarray(array[0]) for name, array in made.items()}
