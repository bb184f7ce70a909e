"""One label for a sound (Audio Spectrogram Transformer, Wav2Vec2 and similar models)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from math import gcd
from typing import Annotated, Any, ClassVar

import numpy as np
from scipy.signal import resample_poly

from pipelines.errors import UserError
from pipelines.registry.option_types import Range
from pipelines.tasks.base import Column, Processor
from pipelines.tasks.shared.classification import Kind, Labels
from pipelines.tasks.shared.media_classification import MediaClassification


class AudioClassification(MediaClassification):
    """Choose one of a few labels for a sound.

    Channels are averaged, the sound is resampled to the rate of the model's own feature extractor, and cut or
    padded with silence to `seconds`, so that the input of a clip does not depend on the rest of its batch.
    Clips that were cut are counted in `counts`. Needs soundfile, which reads WAV, FLAC, OGG and MP3.

    Args:
        seconds: length of every clip after cutting or padding.
        labels: names of the labels, where the data has numbers (0 is the first), or to allow labels that
            train does not have; None: those of the train split.
        kind: "single" (one label), "multi_label" (a list of labels) or "regression" (a number to predict).
    """

    reads: ClassVar[str] = "audio"
    medium: ClassVar[str] = "audio"
    head: ClassVar[str] = "audio_classification"
    columns: Mapping[str, Column] = {
        "audio": Column("audio", "the sound, as bytes or the path of a file"),
        "label": Column("label", "the label, a list of labels or a number (task.kind)", is_target=True),
    }

    def __init__(
        self,
        seconds: Annotated[float, Range(at_least=0.1, at_most=86400)] = 10.0,
        labels: Labels = None,
        kind: Kind = "single",
    ) -> None:
        super().__init__(labels, kind)
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

    def bind(self, processor: Processor, family: str) -> None:
        super().bind(processor, family)
        self._num_samples = round(self.seconds * processor.sampling_rate)
        # Two waveforms that differ only in their last tenth: equal inputs mean that the extractor cuts it.
        waves = np.random.default_rng(0).standard_normal((2, self._num_samples)).astype(np.float32) / 9
        waves[1, : -self._num_samples // 10] = waves[0, : -self._num_samples // 10]
        one, other = (self._model_inputs(wave) for wave in waves)
        if all(np.array_equal(one[name], other[name]) for name in one):
            what = "is longer than what the model's feature extractor reads of a clip"
            raise UserError("task.seconds", what, self.seconds, "a smaller number, or a larger max_length")

    def arrays(self, content: bytes) -> dict[str, np.ndarray]:
        """Return the inputs of one clip: a waveform or a spectrogram, and a mask if the model has one."""
        file = self.decode(content)
        wave = file.read(dtype="float32", always_2d=True).mean(axis=1)
        rate, file_rate = self.processor.sampling_rate, file.samplerate
        if rate != file_rate:
            divisor = gcd(rate, file_rate)
            wave = resample_poly(wave, rate // divisor, file_rate // divisor)
        self.counts["examples_cut"] += len(wave) > self._num_samples
        return self._model_inputs(wave[: self._num_samples].astype(np.float32))

    def _model_inputs(self, wave: np.ndarray) -> dict[str, np.ndarray]:
        """Return the inputs of a waveform of at most `seconds`, padded to them by the feature extractor."""
        shortest = self.processor.sampling_rate // 10  # one window of a spectrogram must fit
        wave = np.pad(wave, (0, max(0, shortest - len(wave))))
        inputs = self.processor(
            wave,
            sampling_rate=self.processor.sampling_rate,
            padding="max_length",
            max_length=self._num_samples,
            return_tensors="np",
        )
        return {name: np.ascontiguousarray(array[0]) for name, array in inputs.items()}
