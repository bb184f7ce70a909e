"""Floating-point operations of one forward: the cost of a variant, independent of the machine's load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from transformers import PreTrainedModel

from pipelines.models.trial_inputs import rows_apart, tensors_of


def _fused_on_cpu(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    """Count the fused attention kernel of a CPU from its shapes: torch counts only those of a GPU."""
    return sdpa_flop_count(query, key, value)


KERNELS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _fused_on_cpu}


def of_forward(model: PreTrainedModel, batch: Mapping[str, Any]) -> int:
    """Count the floating-point operations of the matrix products in one forward; a multiply-add is two.

    Softmax, norms, activations and other elementwise work is not counted. Long texts are read one by one:
    cut ones would not say what attention costs. No random number is drawn, and the modes of the model and
    what it learns are restored.
    """
    training = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in tensors_of(batch).items()}
    counter = FlopCounterMode(display=False, custom_mapping=KERNELS)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in learned:  # the counter stops at a view of one that a module reads (DeBERTa)
            parameter.requires_grad_(False)
        with torch.no_grad(), counter:
            for part in rows_apart(model, inputs):
                model(**part)
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
        for module, mode in training.items():
            module.training = mode
    return counter.get_total_flops()
