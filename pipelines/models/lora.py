"""Low-rank adaptation (LoRA, Hu et al. 2021) by PEFT: pretrained weights are frozen, factors are trained.

The factors are merged into the weights before the test split is scored. The saved model then has the usual
form: it loads, folds and is pushed like any other.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

import custom_attention
from pipelines.config.load import RunConfig
from pipelines.errors import UserError
from pipelines.models.build import drawn_parameters
from pipelines.seeds import derive

if TYPE_CHECKING:
    from peft import PeftModel


def adapt(model: PreTrainedModel, config: RunConfig) -> PeftModel:
    """Add factors to the linear layers of `model`, in place; merge them with `merge_and_unload()`.

    The outputs do not change until the first step, because one factor of each pair starts at zero. Parameters
    that were drawn (a new head, cross-attention of bert2bert) are trained in full; loaded ones are frozen.
    The factors are drawn from a stream of the run's seed, the same in every arm.

    Args:
        config: of a run with `lora`.

    Raises:
        UserError: PEFT is not installed, or a stated target is no linear layer of the model.
    """
    assert config.lora is not None, "adapt is for runs with lora"
    if importlib.util.find_spec("peft") is None:
        raise UserError("lora", "PEFT is not installed", accepted="pip install peft")
    import peft

    names = drawn_parameters(model)
    drawn = [parameter for name, parameter in model.named_parameters() if name in names]
    targets = _targets(config.lora.targets, linear_layers(model))
    refuse_hooked(model, targets)
    torch.manual_seed(derive(config.seed, "lora"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of the layout of GPT-2's projections, and handles it
        adapted = peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=config.lora.rank,
                lora_alpha=config.lora.alpha,  # type: ignore[arg-type]  # typed int; only divided by the rank
                lora_dropout=config.lora.dropout,
                target_modules=targets,
            ),
        )
    for parameter in drawn:
        parameter.requires_grad_(True)
    return adapted


def refuse_hooked(model: PreTrainedModel, targets: Sequence[str]) -> None:
    """Refuse factors on a layer whose output a variant changes: they would be added behind the variant.

    Raises:
        UserError: one of `targets` is such a layer.
    """
    for _, stack in custom_attention.attached(model):
        if stack.having("projected") and stack.site.projection in targets:
            name = stack.site.projection.rpartition(".")[2]
            what = f"a variant changes what {stack.site.projection} returns, and LoRA would add to it later"
            raise UserError("lora.targets", what, accepted=f"targets without {name}")


def linear_layers(model: PreTrainedModel) -> list[str]:
    """Return the names of the linear layers whose weights were loaded, without the output layer.

    A variant's own layers are trained in full.

    The output layer predicts tokens (and may share its weights with the embedding) or is a new head, which is
    trained in full.
    """
    drawn = drawn_parameters(model)
    output = model.get_output_embeddings()
    of_variants = {name.rpartition(".")[0] for name in custom_attention.variant_parameters(model)}
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
        and module is not output
        and f"{name}.weight" not in drawn
        and name not in of_variants
    ]


def _targets(wanted: Sequence[str] | None, layers: list[str]) -> list[str]:
    """Return the full names of the layers whose names end in one of `wanted`; None: all of them."""
    if wanted is None:
        return layers
    found = [name for name in layers if any(f".{name}".endswith(f".{end}") for end in wanted)]
    unknown = [end for end in wanted if not any(f".{name}".endswith(f".{end}") for name in layers)]
    if unknown:
        ends = sorted({name.rpartition(".")[2] for name in layers})
        what = "no linear layer of the pretrained model has this name"
        raise UserError("lora.targets", what, ", ".join(unknown), f"accepted: {', '.join(ends)}")
    return found
