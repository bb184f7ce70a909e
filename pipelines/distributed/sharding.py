"""Shard the weights among processes (FSDP2), for models that one device cannot hold."""

from __future__ import annotations

import torch
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(model: torch.nn.Module) -> torch.nn.Module:
    """Shard every block of a model in place; a block is gathered while it computes.

    Blocks are the module classes that the model declares as `_no_split_modules`; the rest is one block. It is
    not left to accelerate, which silently does not shard on a CPU.
    """
    blocks = set(getattr(model, "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in blocks:
            fully_shard(module)
    fully_shard(model)
    return model


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return the full tensor of a shard, in which all ranks take part; any other tensor unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the state of a model on the CPU with its shards gathered, in which all ranks take part.

    Tensors that the model shares (tied weights, parameters shared by sites) are shared in the state too.
    """
    state = model.state_dict(keep_vars=True)
    gathered = {id(tensor): whole(tensor.detach()).to("cpu") for tensor in state.values()}
    return {name: gathered[id(tensor)] for name, tensor in state.items()}


def share_like(reference: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return this rank's shard of a full tensor, sharded like `reference`; else the tensor itself."""
    if not isinstance(reference, DTensor) or tensor.shape != reference.shape:
        return tensor
    return distribute_tensor(tensor.to(reference.device), reference.device_mesh, reference.placements)
