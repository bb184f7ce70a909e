"""Weights shared out among processes (FSDP2), for models that one device cannot hold."""

from __future__ import annotations

import torch
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(model: torch.nn.Module) -> torch.nn.Module:
    """Let every rank keep its share of each block; a block is gathered while it computes.

    Blocks are the classes that the model says must not be split; the rest is one block. Done here and
    not by accelerate, which shards on accelerators alone and on a CPU goes on unsharded without a word.
    """
    blocks = set(getattr(model, "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in blocks:
            fully_shard(module)
    return fully_shard(model)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The full tensor of a share (all ranks must ask together); any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state of a model on the CPU, shares gathered: all ranks ask together.

    What is one tensor in the model (tied weights, parameters that sites share) is one here.
    """
    state = model.state_dict(keep_vars=True)
    gathered = {id(tensor): whole(tensor.detach()).to("cpu") for tensor in state.values()}
    return {name: gathered[id(tensor)] for name, tensor in state.items()}


def share_like(reference: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """This rank's share of a full tensor, laid out like `reference`; the tensor where that is no share."""
    if not isinstance(reference, DTensor) or tensor.shape != reference.shape:
        return tensor
    return distribute_tensor(tensor.to(reference.device), reference.device_mesh, reference.placements)
