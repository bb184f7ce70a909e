"""Parameter groups, the optimizer and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from pipelines.config.load import RunConfig
from pipelines.errors import UserError
from pipelines.train.muon import LayerMuon, layer_matrices

Group = dict[str, Any]  # parameters with their peak learning rate and weight decay
MUON_MOMENTUM = 0.95


def build_optimizer(
    config: RunConfig, model: torch.nn.Module, variant_parameters: Mapping[str, torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """Build the optimizer over three groups: matrices, vectors (not decayed), the variant's parameters.

    The variant's parameters have their own learning rate. At 2e-5 and 3,000 steps Adam moves a parameter by
    at most 0.06, so a log-temperature would stay near its start and every comparison would find no effect.

    Raises:
        UserError: the optimizer has nothing to train.
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
    return OPTIMIZERS[config.optimizer](config, model, [group for group in groups if group["params"]])


def _adamw(config: RunConfig, model: torch.nn.Module, groups: list[Group]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=True,
    )


def _adafactor(config: RunConfig, model: torch.nn.Module, groups: list[Group]) -> torch.optim.Optimizer:
    """Build Adafactor with the learning rate of the schedule, as transformers' Trainer does."""
    from transformers.optimization import Adafactor  # imports PEFT, which no other run needs

    return Adafactor(groups, lr=config.learning_rate, scale_parameter=False, relative_step=False)


def _sgd(config: RunConfig, model: torch.nn.Module, groups: list[Group]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum or 0.0, fused=True)


def _muon(config: RunConfig, model: torch.nn.Module, groups: list[Group]) -> torch.optim.Optimizer:
    """Build Muon for the matrices of the layers and AdamW for all else."""
    of_layers = {id(matrix) for matrix in layer_matrices(model)}
    first, *others = groups
    mine = [one for one in first["params"] if id(one) in of_layers]
    rest = [one for one in first["params"] if id(one) not in of_layers]
    if not mine:
        what = "muon trains the matrices of layers, and this run trains none"
        raise UserError("optimizer", what, accepted="use adamw, or freeze less")
    matrices = torch.optim.Muon(
        [{**first, "params": mine}],
        lr=config.learning_rate,
        momentum=MUON_MOMENTUM if config.momentum is None else config.momentum,
        adjust_lr_fn="match_rms_adamw",  # so that learning_rate means what it means to AdamW
    )
    others = [{**first, "params": rest}, *others] if rest else others
    return LayerMuon(matrices, _adamw(config, model, others) if others else None)


Builder = Callable[[RunConfig, torch.nn.Module, list[Group]], torch.optim.Optimizer]
OPTIMIZERS: Mapping[str, Builder] = {"adamw": _adamw, "adafactor": _adafactor, "sgd": _sgd, "muon": _muon}


def masks_steps(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether `found_inf` keeps a step from changing anything, without a look at the device."""
    return all(group.get("fused") for group in optimizer.param_groups)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: RunConfig, step: int, num_steps: int
) -> float:
    """Set every group's learning rate for a step (from 0) and return that of the model's own parameters."""
    factor = schedule_factor(config.schedule, step, num_steps, num_warmup_steps(config, num_steps))
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return config.learning_rate * factor


def num_warmup_steps(config: RunConfig, num_steps: int) -> int:
    """Return the steps of the warm-up.

    Raises:
        UserError: the run has no step after them.
    """
    if config.warmup_steps is None:
        return round(config.warmup_ratio * num_steps)
    if config.warmup_steps >= num_steps:
        what = f"the warm-up must end before the {num_steps:,} steps of the run"
        raise UserError("warmup_steps", what, config.warmup_steps, f"at most {num_steps - 1}")
    return config.warmup_steps


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
