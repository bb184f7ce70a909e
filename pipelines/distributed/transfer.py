"""Batches on their way from the host to the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors on the device; other entries as they are."""
    return {
        name: send(value, device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device, without waiting for what the device has yet to do.

    That takes page-locked memory on a GPU: a copy from any other begins when all work before it is done (CUDA
    Driver API, synchronization behaviour of memcpy).
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
