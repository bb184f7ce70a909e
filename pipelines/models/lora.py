"""Low-rank adaptation (LoRA, Hu et al. 2021) by PEFT: pretrained weights stand still, small factors learn.

The factors are merged into the weights before the test split is scored. What a run keeps is then a model of
the usual form, which loads, folds and is pushed like any other.
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING

import torch
from transformers.pytorch_utils import Conv1D

from pipelines.config.load import RunConfig
from pipelines.errors import UserError
from pipelines.seeds import derive

if TYPE_CHECKING:
    from peft import PeftModel


def adapt(model: torch.nn.Module, config: RunConfig) -> PeftModel:
    """Put factors beside the linear layers of `model`, in place; merge them with `merge_and_unload()`.

    The function stays the same until a step is taken, because one factor of each pair starts at zero. What
    was drawn rather than loaded (a new head, cross-attention of bert2bert) trains whole; all else that was
    loaded stands still. The factors come from a stream of the run's seed, the same in every arm.

    Raises:
        UserError: PEFT is not installed, or a stated target is no linear layer of the model.
    """
    if importlib.util.find_spec("peft") is None:
        raise UserError("lora", "PEFT is not installed", accepted="pip install peft")
    import peft

    drawn = [p for name, p in model.named_parameters() if name in model.drawn_parameters]
    layers = linear_layers(model)
    torch.manual_seed(derive(config.seed, "lora"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the layout of GPT-2's projections, which it then gets right
        adapted = peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=config.lora.rank,
                lora_alpha=config.lora.alpha,
                lora_dropout=config.lora.dropout,
                target_modules=_targets(config, layers),
            ),
        )
    for parameter in drawn:
        parameter.requires_grad_(True)
    return adapted


def linear_layers(model: torch.nn.Module) -> list[str]:
    """Names of the linear layers whose weights were loaded, the output layer left out.

    That one says tokens (and may share its weights with the embedding) or is a new head, which trains whole.
    """
    output = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
        and module is not output
        and f"{name}.weight" not in model.drawn_parameters
    ]


def _targets(config: RunConfig, layers: list[str]) -> list[str]:
    """The layers to adapt by their whole names."""
    wanted = config.lora.targets
    if wanted is None:
        return layers
    found = [name for name in layers if any(f".{name}".endswith(f".{end}") for end in wanted)]
    unknown = [end for end in wanted if not any(f".{name}".endswith(f".{end}") for name in layers)]
    if unknown:
        ends = sorted({name.rpartition(".")[2] for name in layers})
        what = "no linear layer of the pretrained model has this name"
        raise UserError("lora.targets", what, ", ".join(unknown), f"accepted: {', '.join(ends)}")
    return found
