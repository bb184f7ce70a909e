"""Keep the variants' parameters in the checkpoints of transformers' Trainer, also under PEFT, and let their
transfer losses count by micro-batches.

A checkpoint of a PEFT model holds the adapter alone: without this callback the variants would be lost without
a word. It writes them beside the adapter and loads them where training resumes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from custom_attention.attach import attached, variant_parameters
from custom_attention.errors import VariantError
from custom_attention.permissions import follow_umask
from custom_attention.runtime.transfer import Transfer

FILE = "variants.safetensors"  # in the folder of a checkpoint


class VariantCheckpoints(TrainerCallback):
    """Write the variants' parameters into every checkpoint; load them where the Trainer loads one.

    Args:
        resume_from: as of `custom_attention.trainer_callback`.
    """

    def __init__(self, resume_from: str | Path | None) -> None:
        self._resume_from = None if resume_from is None else Path(resume_from)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count a transfer loss as the mean over micro-batches; load the parameters if the training resumes.

        Raises:
            VariantError: they are frozen, the checkpoint does not have them, or they are of other variants.
        """
        model: nn.Module = kwargs["model"]
        for _, stack in attached(model):
            stack.state.transfer = Transfer(share=1 / args.gradient_accumulation_steps)
        parameters = variant_parameters(model)
        if parameters and not any(parameter.requires_grad for parameter in parameters.values()):
            what = "the variants' parameters are frozen, as PEFT does with all that is not its own"
            fix = "call requires_grad_(True) on each of custom_attention.variant_parameters(model) first"
            raise VariantError(type(model).__name__, what, accepted=fix)
        if state.global_step:
            _load(model, self._resume_from or _checkpoint(args, state))

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the parameters beside the checkpoint that was just written."""
        parameters = variant_parameters(kwargs["model"])
        if state.is_world_process_zero and parameters:
            file = _checkpoint(args, state) / FILE
            save_file({name: p.detach().cpu().contiguous() for name, p in parameters.items()}, file)
            follow_umask(file.parent)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Load the parameters of the best checkpoint, if the Trainer has loaded the rest of it."""
        if args.load_best_model_at_end and state.best_model_checkpoint:
            _load(kwargs["model"], Path(state.best_model_checkpoint))


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"


def _load(model: nn.Module, folder: Path) -> None:
    """Load the parameters that `on_save` wrote, which must be those of the model.

    Raises:
        VariantError: there is no such file, or it has other names or shapes.
    """
    parameters, file = variant_parameters(model), folder / FILE
    if not parameters:
        return
    if not file.is_file():
        what = f"the checkpoint has no {FILE}, so the variants would start again"
        fix = "resume from one that was written with this callback, or name its folder by resume_from="
        raise VariantError(str(folder), what, accepted=fix)
    stored = load_file(file)
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in stored.items()}:
        odd = sorted(stored.keys() ^ shapes.keys())[:3] or "parameters of other shapes"
        raise VariantError(str(file), "it belongs to other variants", odd)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored[name])
