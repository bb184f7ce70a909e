"""Copy batches from the host to the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return the batch with its tensors on the device; other entries are unchanged."""
    return {
        name: send(value, device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to the device without waiting for the work queued there.

    For a GPU this needs page-locked memory: a copy from other memory waits for all earlier work (CUDA Driver
    API, "API synchronization behavior").
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
