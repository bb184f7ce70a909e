"""One label for an image (ViT and similar models)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from pipelines.tasks.base import Column
from pipelines.tasks.shared.media_classification import MediaClassification


class ImageClassification(MediaClassification):
    """Choose one of a few labels for an image.

    The model's own image processor resizes and crops once, when features are prepared; values are scaled in
    the batch, so that the cache holds one byte per value. There is no random augmentation. Needs Pillow.

    Args:
        labels: names of the labels, where the data has numbers (0 is the first), or to allow labels that
            train does not have; None: those of the train split.
        kind: "single" (one label), "multi_label" (a list of labels) or "regression" (a number to predict).
    """

    reads: ClassVar[str] = "image"
    medium: ClassVar[str] = "image"
    head: ClassVar[str] = "image_classification"
    columns: Mapping[str, Column] = {
        "image": Column("image", "the image, as bytes or the path of a file"),
        "label": Column("label", "the label, a list of labels or a number (task.kind)", is_target=True),
    }

    def decode(self, content: bytes) -> Any:
        from PIL import Image, UnidentifiedImageError

        try:
            return Image.open(io.BytesIO(content))
        except UnidentifiedImageError as error:
            raise ValueError("it is in no format that Pillow knows") from error

    def arrays(self, content: bytes) -> dict[str, np.ndarray]:
        """Return pixel_values (channels, height, width), uint8."""
        image = self.decode(content).convert("L" if len(self.processor.image_mean) == 1 else "RGB")
        inputs = self.processor(images=[image], do_rescale=False, do_normalize=False, return_tensors="np")
        return {"pixel_values": inputs["pixel_values"][0].astype(np.uint8)}

    def tensors(self, arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """Return pixel_values (batch, channels, height, width), scaled."""
        settings = {"do_resize": False, "do_center_crop": False, "input_data_format": "channels_first"}
        inputs = self.processor(images=list(arrays["pixel_values"]), return_tensors="pt", **settings)
        return {"pixel_values": inputs["pixel_values"]}
