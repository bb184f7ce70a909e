"""Let a run compute its attention by another kernel (`kernel:`), and compare it with the model's own."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

import custom_attention
from custom_attention.modes import quiet
from custom_attention.proof import EXPLICIT_BOUND, largest_difference, outputs
from pipelines.config.load import RunConfig
from pipelines.distributed.accelerator import expects_cpu
from pipelines.distributed.transfer import to_device
from pipelines.errors import UserError
from pipelines.models.attention import variant_errors_as_user_errors
from pipelines.tasks.base import Batch, Task

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def require_gpu(config: RunConfig) -> None:
    """Refuse a kernel that cannot train where the run is computed, before anything is prepared.

    Raises:
        UserError: there is no GPU.
    """
    if config.kernel is not None and expects_cpu(config):
        what = f"{config.kernel} attention trains on a GPU only, and none was found"
        raise UserError("kernel", what, accepted="use a machine with a GPU, or leave kernel out")


def use_kernel(name: str, model: PreTrainedModel, task: Task, batch: Batch, accelerator: Accelerator) -> str:
    """Give an attached model another kernel, on its device, and return a sentence on what that changes.

    Args:
        batch: what `task.collate` returns.

    Raises:
        UserError: it cannot compute a variant, a site or a batch of training, or its outputs are others.
    """
    batch = to_device(batch, accelerator.device)
    inputs = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    own = _outputs(model, inputs, accelerator)
    with variant_errors_as_user_errors():
        custom_attention.use_kernel(model, name)
        _try_to_train(model, task, batch, accelerator)
        others = _outputs(model, inputs, accelerator)
    difference, largest = largest_difference(others, own)
    precision = DTYPES["bfloat16" if accelerator.mixed_precision == "bf16" else "float32"]
    bound = EXPLICIT_BOUND * largest * torch.finfo(precision).eps
    if not difference <= bound:
        what = f"its outputs differ from those of the model's own kernel by {difference:.3g}"
        raise UserError("kernel", what, name, f"at most {bound:.3g}: leave kernel out, and report it")
    return f"attention by {name}: largest difference to the model's own kernel {difference:.3g}"


def _outputs(
    model: PreTrainedModel, inputs: dict[str, Any], accelerator: Accelerator
) -> dict[str, torch.Tensor]:
    with quiet(model), torch.no_grad(), accelerator.autocast():
        return outputs(model, inputs)


def _try_to_train(model: PreTrainedModel, task: Task, batch: Batch, accelerator: Accelerator) -> None:
    """Run a forward as training does, in which the kernel refuses what it does not have."""
    with quiet(model), accelerator.autocast():
        model.train()
        task.loss(model, batch)
