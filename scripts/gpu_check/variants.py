"""The cost of every variant over stock attention, by the order in which torch tries its kernels."""

from __future__ import annotations

import statistics
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel

from pipelines.registry import catalog
from scripts.benchmarks import attention
from scripts.gpu_check.scale import Scale

OWN_ORDER, CUDNN_FIRST = "torch's order", "cuDNN first"
KERNELS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
CASES = ("encoder, 512", "decoder, 2048", "T5, 512/128")
TINY_CASE = attention.Case("encoder, 24", attention.small_encoder, 2, 24)
TINY_VARIANTS = ["stock", "gate"]


def measure(scale: Scale) -> dict[str, Any]:
    """Return the time of each variant over stock by case and order of kernels, and its seconds."""
    cases = [TINY_CASE] if scale.is_tiny else [case for case in attention.cases() if case.name in CASES]
    found_entries = (catalog.find(catalog.VARIANT, name) for name in catalog.names(catalog.VARIANT))
    paths = {entry.name: entry.path for entry in found_entries if entry is not None}
    every = TINY_VARIANTS if scale.is_tiny else sorted(paths)
    on_kernel = [name for name in every if paths[name] == "kernel"]
    found = {f"{case.name}; {OWN_ORDER}": _costs(case, every) for case in cases}
    if scale.device.type == "cuda":
        with sdpa_kernel(KERNELS, set_priority=True):
            found |= {f"{case.name}; {CUDNN_FIRST}": _costs(case, on_kernel) for case in cases}
    return {"over_stock": found, "paths": {name: paths[name] for name in every}}


def _costs(case: attention.Case, names: list[str]) -> dict[str, Any]:
    costs = attention.measure(case, attention.possible(case, names))
    return {
        name: {"time": statistics.median(cost.times), "memory": cost.memory, "seconds": cost.seconds}
        for name, cost in costs.items()
    }
