"""Finding the attention modules of a model: one forward in which the dispatcher answers zeros and takes
notes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import NoneType

import torch
from torch import nn

from custom_attention.dummy_inputs import made_up_example
from custom_attention.errors import VariantError
from custom_attention.modes import quiet
from custom_attention.runtime.call import OWN_SCORE_TERMS
from custom_attention.runtime.dispatch import ATTRIBUTE, NAMES, observed
from custom_attention.variant import Site

_STOCK_NAMES = {name: kernel for kernel, name in NAMES.items()}


@dataclass(frozen=True)
class Found:
    """A site with the module that it is, the kernel the model calls there, and what the model puts into its
    softmax besides scores, bias and mask."""

    site: Site
    module: nn.Module
    kernel_name: str
    own_terms: tuple[str, ...] = ()


def sites(model: nn.Module, example: Mapping | None = None) -> list[Site]:
    """The attention sites of `model` in order of execution: those attached, or else found by one probing
    forward."""
    stacks = [m.attnlab.site for m in model.modules() if hasattr(m, ATTRIBUTE)]
    if stacks:
        return sorted(stacks, key=lambda site: site.index)
    return [found.site for found in probe(model, example)]


def probe(model: nn.Module, example: Mapping | None = None) -> list[Found]:
    """Run `model` on `example` (made up from its config when None) and report every attention module reached.

    Raises VariantError for a model that does not dispatch through transformers' attention interface, for
    kernels that were not measured, and when no example can be made up.
    """
    if not isinstance(example, (Mapping, NoneType)):
        what = "an example is the keyword arguments of one forward"
        raise VariantError(
            "example", what, type(example).__name__, "a dict of tensors, as a tokenizer gives it"
        )
    notes: dict[nn.Module, dict] = {}

    def note(module, query, key, value, mask, scaling, kwargs):
        facts = notes.setdefault(module, {"order": len(notes)})
        facts.update(shape=query.shape, key_heads=key.shape[1], scaling=scaling, kwargs=kwargs)
        source = facts.get("input")
        if source is not None:
            facts["is_cross"] = not (key.requires_grad and _depends(key, source))
        elif "is_cross" not in facts:
            facts["is_cross"] = query.shape[2] != key.shape[2]
        return query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[-1])

    with quiet(model), dispatching(model), observed(note):
        batch = dict(example) if example is not None else made_up_example(model)
        notes.clear()  # tries that failed took notes too
        failure = _try_forward(model, batch, grad=False)
        if notes and failure is None:
            with _watching_inputs(notes):
                failure = _try_forward(model, batch, grad=True)
    if not notes:
        detail = "" if failure is None else f" (its forward stopped with {type(failure).__name__}: {failure})"
        raise VariantError(
            type(model).__name__,
            f"its attention does not go through transformers' attention interface{detail}",
            accepted="choose a model that dispatches (BERT, GPT-2, T5, Llama, ...) or pass example=batch",
        )
    if failure is not None:
        raise VariantError(
            type(model).__name__,
            f"the probing forward stopped with {type(failure).__name__}: {failure}",
            accepted="pass example= with a real batch, a dict of tensors",
        ) from failure
    return _describe(model, notes)


def attention_configs(model: nn.Module) -> list:
    """Every config object from which some module of `model` reads the name of its attention kernel."""
    found: dict[int, object] = {}
    for module in model.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation_internal"):
            found[id(config)] = config
    return list(found.values())


@contextmanager
def dispatching(model: nn.Module) -> Iterator[None]:
    """While active the model calls our dispatcher, whatever it called before."""
    with _renamed(model, lambda kernel: NAMES.get(kernel, NAMES["sdpa"])):
        yield


@contextmanager
def bypassing(model: nn.Module) -> Iterator[None]:
    """While active the model calls its own kernel, as if nothing were attached."""
    with _renamed(model, lambda kernel: kernel):
        yield


@contextmanager
def _renamed(model: nn.Module, rename: Callable[[str], str]) -> Iterator[None]:
    configs = attention_configs(model)
    before = [config._attn_implementation for config in configs]
    for config in configs:
        config._attn_implementation_internal = rename(stock_kernel_name(config))
    try:
        yield
    finally:
        for config, name in zip(configs, before):
            config._attn_implementation_internal = name


def stock_kernel_name(config) -> str:
    """The kernel behind a config, whether or not a variant is attached now."""
    name = config._attn_implementation
    return _STOCK_NAMES.get(name, name)


def _depends(tensor: torch.Tensor, source: torch.Tensor) -> bool:
    (gradient,) = torch.autograd.grad(tensor.sum(), source, retain_graph=True, allow_unused=True)
    return gradient is not None


def _try_forward(model: nn.Module, batch: dict, grad: bool) -> Exception | None:
    try:
        with torch.set_grad_enabled(grad):
            model(**batch)
    except Exception as error:  # any model, any example: the caller decides what it means
        return error
    return None


@contextmanager
def _watching_inputs(notes: dict[nn.Module, dict]) -> Iterator[None]:
    """Cut the graph at the input of each attention module, so that keys which do not depend on it are cross
    keys."""

    def cut(module, args, kwargs):
        given = [*args, kwargs.get("hidden_states"), *kwargs.values()]
        first = next((v for v in given if torch.is_tensor(v) and v.is_floating_point()), None)
        if first is None:
            return None
        leaf = notes[module]["input"] = first.detach().requires_grad_()
        # Everywhere that it is given: some modules take it as query, as key and as value.
        args = tuple(leaf if value is first else value for value in args)
        return args, {name: leaf if value is first else value for name, value in kwargs.items()}

    handles = [module.register_forward_pre_hook(cut, with_kwargs=True) for module in notes]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _describe(model: nn.Module, notes: dict[nn.Module, dict]) -> list[Found]:
    names = {module: name for name, module in model.named_modules()}
    stacks = _stacks(model, notes)
    layers = _layers(names, notes, stacks)
    found = []
    for module, facts in notes.items():
        kernel_name = stock_kernel_name(_config_of(model, names[module], module))
        if kernel_name not in NAMES:
            raise VariantError(
                type(model).__name__,
                "variants were not measured on this attention kernel",
                kernel_name,
                'load the model with attn_implementation="sdpa" (or "eager")',
            )
        _, num_heads, _, head_dim = facts["shape"]
        site = Site(
            name=names[module],
            index=facts["order"],
            num_sites=len(notes),
            num_heads=num_heads,
            num_key_heads=facts["key_heads"],
            head_dim=head_dim,
            scale=head_dim**-0.5 if facts["scaling"] is None else float(facts["scaling"]),
            is_cross=facts["is_cross"],
            is_causal=_is_causal(module, facts),
            stack=stacks[module],
            layer=layers[module],
        )
        own_terms = tuple(name for name in OWN_SCORE_TERMS if facts["kwargs"].get(name) is not None)
        found.append(Found(site, module, kernel_name, own_terms))
    return found


def _is_causal(module: nn.Module, facts: dict) -> bool:
    given = facts["kwargs"].get("is_causal")
    causal = getattr(module, "is_causal", True) if given is None else given
    return bool(causal) and not facts["is_cross"]


def _config_of(model: nn.Module, name: str, module: nn.Module):
    """The config of the module, or of the nearest module around it that has one."""
    path = name.split(".")
    owners = [module] + [model.get_submodule(".".join(path[:n])) for n in range(len(path) - 1, -1, -1)]
    return next(
        o.config for o in owners if hasattr(getattr(o, "config", None), "_attn_implementation_internal")
    )


def _stacks(model: nn.Module, notes: dict[nn.Module, dict]) -> dict[nn.Module, str]:
    if getattr(model.config, "is_encoder_decoder", False):
        encoder = set(model.get_encoder().modules())
        return {module: "encoder" if module in encoder else "decoder" for module in notes}
    causal = any(_is_causal(module, facts) for module, facts in notes.items())
    return dict.fromkeys(notes, "decoder" if causal else "encoder")


def _layers(names: dict, notes: dict[nn.Module, dict], stacks: dict) -> dict[nn.Module, int]:
    """The first number in a module's path, where that tells the sites of a stack apart; else the order of
    execution."""
    groups: dict[tuple, list[nn.Module]] = {}
    for module, facts in notes.items():
        groups.setdefault((stacks[module], facts["is_cross"]), []).append(module)
    layers = {}
    for members in groups.values():
        numbers = [re.search(r"\.(\d+)(\.|$)", "." + names[module]) for module in members]
        numbered = [int(number[1]) for number in numbers if number]
        usable = len(set(numbered)) == len(members)
        layers.update(zip(members, numbered if usable else range(len(members))))
    return layers
