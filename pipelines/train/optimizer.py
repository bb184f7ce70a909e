"""Parameter groups, the optimizer and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from pipelines.config.load import RunConfig


def build_optimizer(
    config: RunConfig, model: torch.nn.Module, variant_parameters: Mapping[str, torch.nn.Parameter]
) -> torch.optim.AdamW:
    """Build fused AdamW over three groups: matrices, vectors (not decayed), the variant's parameters.

    The variant's parameters have their own learning rate. At 2e-5 and 3,000 steps Adam moves a parameter by
    at most 0.06, so a log-temperature would stay near its start and every comparison would find no effect.
    """
    variant_ids = {id(parameter) for parameter in variant_parameters.values()}
    matrices: list[torch.nn.Parameter] = []
    vectors: list[torch.nn.Parameter] = []
    variant: list[torch.nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in variant_ids:
            variant.append(parameter)
        else:
            (matrices if parameter.ndim >= 2 else vectors).append(parameter)
    groups = [
        {"params": matrices, "base_lr": config.learning_rate, "weight_decay": config.weight_decay},
        {"params": vectors, "base_lr": config.learning_rate, "weight_decay": 0.0},
        {
            "params": variant,
            "base_lr": config.variant_learning_rate,
            "weight_decay": config.variant_weight_decay,
        },
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=True,
    )


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: RunConfig, step: int, num_steps: int
) -> float:
    """Set every group's learning rate for a step (from 0) and return that of the model's own parameters."""
    factor = schedule_factor(config.schedule, step, num_steps, round(config.warmup_ratio * num_steps))
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return config.learning_rate * factor


def schedule_factor(schedule: str, step: int, num_steps: int, num_warmup_steps: int) -> float:
    """Return the share of the peak learning rate at a step: linear warm-up, then the named schedule."""
    if step < num_warmup_steps:
        return (step + 1) / num_warmup_steps
    progress = (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps)
    return {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
    }[schedule]
