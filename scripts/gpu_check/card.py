"""The card itself: its name, versions, and the products and copies per second that it really gives."""

from __future__ import annotations

import time
from typing import Any

import torch

from scripts.gpu_check.scale import Scale

# Dense bfloat16 operations a second that the makers state, by a part of the card's name.
STATED_PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
    "A10": 125e12,
    "L4": 121e12,
}


def measure(scale: Scale) -> dict[str, Any]:
    """Return the card's name, versions, measured TFLOP/s of a matrix product and GB/s of a copy."""
    side = 64 if scale.is_tiny else 8192
    found: dict[str, Any] = {
        "device": name(scale),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "tflops": {
            str(dtype).removeprefix("torch."): _products(side, dtype, scale)
            for dtype in (torch.bfloat16, torch.float32)
        },
        "copied_gb_per_second": _copies(2**10 if scale.is_tiny else 2**30, scale),
    }
    if scale.device.type == "cuda":
        found |= {
            "memory_gib": torch.cuda.get_device_properties(0).total_memory / 2**30,
            "cudnn": torch.backends.cudnn.version(),
            "capability": ".".join(map(str, torch.cuda.get_device_capability())),
        }
    return found


def name(scale: Scale) -> str:
    return "CPU, tiny" if scale.is_tiny else torch.cuda.get_device_name()


def peak_flops(scale: Scale) -> float | None:
    """Return the card's stated peak in bfloat16; None for a card that is not in the list."""
    if scale.is_tiny:
        return None
    return next((peak for part, peak in STATED_PEAKS.items() if part in name(scale)), None)


def _products(side: int, dtype: torch.dtype, scale: Scale) -> float:
    left, right = (torch.randn(side, side, device=scale.device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / _seconds(lambda: left @ right, scale) / 1e12


def _copies(size: int, scale: Scale) -> float:
    source = torch.zeros(size, dtype=torch.uint8, device=scale.device)
    target = torch.empty_like(source)
    return 2 * size / _seconds(lambda: target.copy_(source), scale) / 1e9  # read and written


def _seconds(work: Any, scale: Scale, times: int = 5) -> float:
    work()
    scale.wait()
    begun = time.perf_counter()
    for _ in range(times):
        work()
    scale.wait()
    return (time.perf_counter() - begun) / times
