"""Freeze the modules that a run names: their parameters keep their values."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch.nn import Module, Parameter
from transformers import PreTrainedModel

import custom_attention
from pipelines.config.suggestions import perhaps
from pipelines.errors import UserError


def freeze(model: PreTrainedModel, patterns: Sequence[str], *, train_variant: bool) -> str:
    """Freeze what the patterns fit, in place, and return a line that counts it.

    A pattern fits the end of the name of a module or parameter; `*`, `?` and `[0-3]` stand for characters.
    The variant's parameters are never frozen here: `train_variant` decides.

    Raises:
        UserError: a pattern fits no parameter, or nothing is left to train.
    """
    variant = {id(parameter) for parameter in custom_attention.variant_parameters(model).values()}
    own = [parameter for parameter in model.parameters() if id(parameter) not in variant]
    counts = []
    for pattern in patterns:
        found = [one for one in _fitting(model, pattern) if id(one) not in variant]
        if not found:
            raise _fits_nothing(model, pattern)
        for parameter in found:
            parameter.requires_grad_(False)
        counts.append(f"{pattern} {sum(parameter.numel() for parameter in found):,}")
    if not any(parameter.requires_grad for parameter in own) and not (variant and train_variant):
        raise UserError("freeze", "nothing is left to train", list(patterns), "freeze less")
    frozen = sum(parameter.numel() for parameter in own if not parameter.requires_grad)
    whole = sum(parameter.numel() for parameter in own)
    return f"frozen: {frozen:,} of {whole:,} parameters ({', '.join(counts)})"


def _fitting(model: Module, pattern: str) -> list[Parameter]:
    """Return the parameters, each once, of all that a pattern fits."""
    named: list[tuple[str, Module | Parameter]] = [*model.named_modules(), *model.named_parameters()]
    found: dict[int, Parameter] = {}
    for name, one in named:
        if name and fnmatchcase(f".{name}", f"*.{pattern}"):
            parameters = [one] if isinstance(one, Parameter) else one.parameters()
            found |= {id(parameter): parameter for parameter in parameters}
    return list(found.values())


def _fits_nothing(model: Module, pattern: str) -> UserError:
    holding = [
        name for name, module in model.named_modules() if name and any(True for _ in module.parameters())
    ]
    parts = {part for name in holding for part in name.split(".") if not part.isdigit()}
    accepted = perhaps(pattern.rpartition(".")[2], parts, "modules", "attnlab inspect shows the modules")
    return UserError("freeze", "no parameter is in a module of this name", pattern, accepted)
