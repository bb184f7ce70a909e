"""Compare the weights of a folder with the model they were loaded into: only a head may be missing.

A body that was found in part, or not at all, would train at random under the name of a pretrained model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypedDict

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipelines.errors import UserError

MOST_NAMES = 5  # of modules in one sentence
POOLER, MASK = "pooler", "mask"  # of a body: what a head adds, and what only hides inputs


class LoadingInfo(TypedDict):
    """What transformers reports with `output_loading_info=True`, as far as it is used here."""

    missing_keys: Collection[str]
    unexpected_keys: Collection[str]
    mismatched_keys: Collection[tuple[Any, ...]]  # name, size in the weights, size in the model


def require_body(
    model: PreTrainedModel,
    info: LoadingInfo,
    source: str,
    may_lack: Callable[[str], bool] = lambda name: False,
) -> None:
    """Refuse a model whose body is not in the weights, whole and in its sizes.

    Args:
        source: name of the model, for the message.
        may_lack: whether the weights may lack this parameter too.

    Raises:
        UserError: it says which modules are missing, and by which names the weights begin.
    """
    body = _body(model)
    for name, stored, needed in sorted(info["mismatched_keys"]):
        if name in body:
            what = f"the config does not fit the weights: {name} has another size there"
            sizes = f"{tuple(stored)} instead of {tuple(needed)}"
            fix = "leave out the entries that change a size, or correct its config.json"
            raise UserError("model.config", f"{what}, {sizes}", source, fix)
    required = {name for name in body if not may_lack(name)}
    missing = required.intersection(info["missing_keys"])
    if not missing:
        return
    begin = sorted({".".join(name.split(".")[:2]) for name in info["unexpected_keys"]})
    there = f"; its other weights begin with {listed(begin)}" if begin else ""
    if missing == required:
        what = "no weight of the body was found"
        fix = f"save the {type(model).__name__} itself, without a wrapper, or name its own architecture"
    else:
        lost = modules(missing, {name for name, _ in _tensors(model)} - missing)
        what = f"{len(missing)} of {len(required)} weights of the body are missing: {listed(lost)}"
        fix = "name a complete model, or leave out the entries of model.config that add to it"
    raise UserError("model.name", what + there, source, fix)


def loading_lines(model: PreTrainedModel) -> list[str]:
    """Return a sentence for the modules that were drawn, and one for the weights that were left out."""
    record = vars(model)
    drawn, unused = record["drawn_parameters"], record["unused_weights"]
    names = {name for name, _ in _tensors(model)}
    lines = []
    if drawn:
        found = listed(modules(drawn, names - drawn))
        lines.append(f"not in the pretrained model (or there for other labels), so drawn: {found}")
    if unused:
        found = listed(modules(unused, names))
        lines.append(f"in the pretrained model and not in this one, so left out: {found}")
    return lines


def require_numbers(model: PreTrainedModel, source: str) -> None:
    """Refuse weights that are no numbers, as after a training that diverged: every output would be NaN.

    Raises:
        UserError: it names their modules.
    """
    parameters = dict(model.named_parameters())
    wrong = {name for name, weight in parameters.items() if not _is_finite(weight)}
    if wrong:
        what = f"weights are NaN or infinite: {listed(modules(wrong, parameters.keys() - wrong))}"
        raise UserError("model.name", what, source, "name a checkpoint from before they became so")


def _is_finite(weight: torch.Tensor) -> bool:
    """Return whether no number is NaN or infinite: else one is the smallest or the largest."""
    return not weight.numel() or bool(torch.stack(torch.aminmax(weight)).isfinite().all())


def require_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Refuse a tokenizer with tokens beyond the rows of the embedding; rows without a token are padding.

    Raises:
        UserError: it says both numbers.
    """
    rows = getattr(model.get_input_embeddings(), "num_embeddings", None)
    needed = max(tokenizer.get_vocab().values(), default=0) + 1
    if hasattr(model.config.get_text_config(), "vocab_size") and rows is not None and needed > rows:
        what = f"the tokenizer has {needed:,} tokens, and the model's embedding has {rows:,} rows"
        fix = (
            "name the model's own tokenizer, or save the model after resize_token_embeddings(len(tokenizer))"
        )
        raise UserError("model.tokenizer", what, source, fix)


def modules(names: Iterable[str], others: Collection[str]) -> list[str]:
    """Return the outermost modules that hold `names` and none of `others`, each once."""
    held = {".".join(other.split(".")[:n]) for other in others for n in range(1, other.count(".") + 2)}
    found = set()
    for name in names:
        path = name.split(".")
        prefixes = (".".join(path[:n]) for n in range(1, len(path) + 1))
        found.add(next((prefix for prefix in prefixes if prefix not in held), name))
    return sorted(found)


def listed(names: list[str]) -> str:
    """Return the first names as text, and the number of the others."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _tensors(model: torch.nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    return model.state_dict(keep_vars=True).items()


def _is_optional(name: str) -> bool:
    return POOLER in name or MASK in name.rpartition(".")[2]


def _body(model: PreTrainedModel) -> set[str]:
    """Return the names of the body's parameters: without heads, poolers and embeddings of hidden inputs."""
    body = model.base_model
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    if body is not model:
        prefix = next(name for name, module in model.named_modules() if module is body)
        inside = {name for name in names if name.startswith(f"{prefix}.")}
    else:  # the body is no module of its own (T5 and its head): its parts have embeddings or layers
        parts = [
            name
            for name, part in model.named_children()
            if any(isinstance(m, torch.nn.Embedding | torch.nn.ModuleList) for m in part.modules())
        ]
        inside = {name for name in names if name.split(".")[0] in parts}
    output = model.get_output_embeddings()
    if output is not None:
        heads = {name for name, module in model.named_modules() if module is output}
        inside = {name for name in inside if name.rpartition(".")[0] not in heads}
    return {name for name in inside if not _is_optional(name)}
