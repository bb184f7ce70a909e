"""Classification of files: images and sounds, as bytes in a row or at a path."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from pipelines.errors import UserError
from pipelines.tasks.base import Batch, Example, Feature
from pipelines.tasks.shared.classification import Classification

NUMBERS_PER_PATCH = 16 * 16  # of an image or a spectrogram: the usual patch, one token for max_tokens
SAMPLES_PER_TOKEN = 320  # of a waveform: the usual step, one token for max_tokens


class MediaClassification(Classification):
    """Choose a label for the content of a file.

    A row holds {bytes, path}, as `datasets` stores an Image or Audio column. Where the bytes are missing, the
    file at the path is read once, before anything is hashed or learned.
    All inputs have the same shape, so nothing is padded and predictions do not depend on the batch.
    """

    medium: ClassVar[str]  # canonical name of the column
    _shapes: list[tuple[int, ...]] | None = None  # of the arrays of a file, the same for every file

    # ---- rows
    @abstractmethod
    def decode(self, content: bytes) -> Any:
        """Open the content of a file, which also checks its format.

        Raises:
            ValueError: it is not a file of this medium; the message is a clause.
        """

    def check_input(self, example: Example) -> str | None:
        value = example[self.medium]
        if not isinstance(value, Mapping) or not {"bytes", "path"} & value.keys():
            kind = {"str": "text"}.get(type(value).__name__, type(value).__name__)
            what = f"has an {self.medium} that is {kind}, not the content of a file"
            return f"{what} (a struct of bytes and path, as datasets writes it)"
        if value.get("bytes") is None and not value.get("path"):
            return f"holds no {self.medium}: neither bytes nor a path"
        try:
            self.decode(content_of(value))
        except OSError as error:
            return f"names the {self.medium} {value.get('path')!r}, which cannot be read: {error.strerror}"
        except ValueError as error:
            named = f" at {value['path']!r}" if value.get("path") else ""
            return f"holds no {self.medium}{named}: {error}"
        return None

    def examples(self, rows: Sequence[Example]) -> Sequence[Example]:
        return [{**row, self.medium: _whole(row[self.medium])} for row in rows]

    def from_text(self, text: str) -> Example:
        """Return a row with the file at the path that the line holds."""
        return {self.medium: {"bytes": None, "path": text.strip()}}

    def shown(self, example: Example) -> Any:
        return example[self.medium].get("path") or example["id"]

    # ---- features and batches
    @abstractmethod
    def arrays(self, content: bytes) -> dict[str, np.ndarray]:
        """Return the inputs of the model for one file, by the model's names; all files give the same shapes.

        Raises:
            ValueError, OSError: the file is damaged.
        """

    def tensors(self, arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """Return the inputs of the model, (batch, ...), from the stacked `arrays` of several files."""
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def prepare(self, examples: Sequence[Example]) -> list[Feature]:
        """Return one feature per example: arrays as bytes with name, shape and type; the label's number."""
        return [
            {**self.target(example), "arrays": [_packed(*item) for item in self._arrays_of(example).items()]}
            for example in examples
        ]

    def _arrays_of(self, example: Example) -> dict[str, np.ndarray]:
        try:
            arrays = self.arrays(example[self.medium]["bytes"])
        except (ValueError, OSError) as error:
            what = f"the {self.medium} is damaged: {error}"
            raise UserError(f"example {example['id']}", what, accepted="repair or remove it") from error
        self.counts["examples"] += 1
        shapes = [array.shape for array in arrays.values()]
        if self._shapes not in (None, shapes):
            what = f"the model's {type(self.processor).__name__} makes inputs of several sizes"
            raise UserError("model", what, [self._shapes, shapes], "one that resizes to a fixed size")
        self._shapes = shapes
        return arrays

    def feature_len(self, feature: Feature) -> int:
        """Return the tokens that a usual model cuts it into: patches, or steps of a waveform."""
        *_, width = shape = feature["arrays"][0]["shape"]
        if len(shape) == 1:
            return max(1, width // SAMPLES_PER_TOKEN)
        return max(1, shape[-2] * width // NUMBERS_PER_PATCH)

    def collate(self, features: Sequence[Feature]) -> Batch:
        """Return the inputs of the model, (batch, ...), and labels."""
        rows = [{packed["name"]: _unpacked(packed) for packed in feature["arrays"]} for feature in features]
        stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return {**self.tensors(stacked), "labels": self.targets(features)}

    def show(self, feature: Feature) -> str:
        sizes = (f"{one['name']} {' x '.join(map(str, one['shape']))}" for one in feature["arrays"])
        return f"{', '.join(sizes)}\n  -> {self.label_of(feature)}"


def content_of(value: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file, from the row or from its path."""
    return value["bytes"] if value.get("bytes") is not None else Path(value["path"]).read_bytes()


def _whole(value: Mapping[str, Any]) -> dict[str, Any]:
    return {**value, "bytes": content_of(value)}


def _packed(name: str, array: np.ndarray) -> dict[str, Any]:
    """Return an array as a feature stores it: as bytes, since a list has a Python object per number."""
    return {"name": name, "bytes": array.tobytes(), "shape": list(array.shape), "type": array.dtype.str}


def _unpacked(packed: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(packed["bytes"], packed["type"]).reshape(packed["shape"])
