"""Find what a forward pass may leave out: layers that are skipped at random, parameters that nothing reads.

Processes that hold copies of a model wait for the gradient of every parameter, and those that share its
weights for every layer, unless they are told.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from transformers import PreTrainedConfig, PreTrainedModel

from custom_attention.modes import quiet
from pipelines.errors import UserError

LAYERDROP = "layerdrop"  # how the names of these entries end: layerdrop, encoder_layerdrop, ...


def layerdrop(model: PreTrainedModel) -> dict[str, float]:
    """Return the entries of the model's configs by which training skips whole layers at random."""
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values()
    found: dict[str, float] = {}
    for config in configs:
        if isinstance(config, PreTrainedConfig):
            found |= {
                name: value for name, value in vars(config).items() if name.endswith(LAYERDROP) and value
            }
    return found


def expect_skipped(
    accelerator: Accelerator, model: PreTrainedModel, loss: Callable[[], torch.Tensor]
) -> None:
    """Make copies of a model look for parameters without a gradient, if it can have any.

    A parameter that one process skips counts as zero there.

    Args:
        loss: computes the loss of `model` on a batch.
    """
    if accelerator.distributed_type is DistributedType.NO:
        return
    if layerdrop(model) or _leaves_out(model, loss):
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)


def refuse_skipped_layers(model: PreTrainedModel) -> None:
    """Refuse to shard a model whose processes would skip different layers, and wait for each other forever.

    Raises:
        UserError: it names the entry to set to 0.
    """
    for name, value in layerdrop(model).items():
        what = (
            f"layers are skipped at random ({name} {value}), each process its own, and shards need every one"
        )
        raise UserError("sharding", what, "fsdp2", f"set model.config.{name}=0.0, or sharding=none")


def _leaves_out(model: PreTrainedModel, loss: Callable[[], torch.Tensor]) -> bool:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with quiet(model), torch.enable_grad():
        loss().backward()
    unread = any(parameter.grad is None for parameter in trained)
    for parameter in trained:
        parameter.grad = None
    return unread
