"""Floating-point operations of one forward: what a variant adds, however busy the machine is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def _fused_on_cpu(query, key, value, *_, **__) -> int:
    """Of shapes: the counter knows the fused kernels of a GPU, not that of a CPU."""
    return sdpa_flop_count(query, key, value)


KERNELS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _fused_on_cpu}


def of_forward(model: torch.nn.Module, batch: Mapping[str, Any]) -> int:
    """Floating-point operations of the products of matrices in one forward, a multiply-add being two.

    Softmax, norms, activations and other work on single numbers is not counted. No random number is taken and
    the modes of the model are as before.
    """
    training = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in batch.items() if isinstance(value, torch.Tensor)}
    counter = FlopCounterMode(display=False, custom_mapping=KERNELS)
    try:
        model.eval()
        with torch.no_grad(), counter:
            model(**inputs)
    finally:
        for module, mode in training.items():
            module.training = mode
    return counter.get_total_flops()
