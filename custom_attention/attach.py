"""Hanging variants on a model's attention sites, and taking them off again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from custom_attention import registry
from custom_attention.errors import VariantError
from custom_attention.head_weights import head_blocks, refuse_shared_weights
from custom_attention.runtime.dispatch import ATTRIBUTE, NAMES, Stack
from custom_attention.runtime.restored_model import kernel_function
from custom_attention.sites import Found, attention_configs, probe, stock_kernel_name
from custom_attention.variant import SCORE_HOOKS, Site, Variant


def attach(model: nn.Module, spec: Any, *, where: Any = None, example: Mapping | None = None) -> nn.Module:
    """Swap the attention of `model` in place and return it. Attach after `from_pretrained`, before the
    optimizer.

    Args:
        model: any transformers model whose attention dispatches, on the sdpa or eager kernel.
        spec: a variant name, {name: options}, or a list of those in order; [] is stock attention through our
            dispatcher, the control of an ablation.
        where: which sites, an object or dict with `kind` ("all", "self", "cross"), `stack` ("all", "encoder",
            "decoder") and `layers` ("0-3,5", counted within the stack, or None); None is every site.
        example: keyword arguments of one forward of the model that reaches every attention module; made up
            from the config when None.

    Raises:
        VariantError: the model does not dispatch, no site matches, an option is unknown, or a variant
            cannot sit there.
    """
    found = _probed(model, example)
    return _hang(model, registry.parse(spec), found, select(found, where), example, edit_weights=True)


def attach_saved(model: nn.Module, spec: Any, site_names: list[str]) -> nn.Module:
    """Attach to the named sites of a model whose weights hold already what `attach` would do to them."""
    found = _probed(model, None)
    chosen = [f for f in found if f.site.name in set(site_names)]
    if len(chosen) != len(site_names):
        missing = sorted(set(site_names) - {f.site.name for f in chosen})
        raise VariantError(type(model).__name__, "attention sites of the saved model are not here", missing)
    return _hang(model, [(name, options) for name, options in spec], found, chosen, None, edit_weights=False)


def _probed(model: nn.Module, example: Mapping | None) -> list[Found]:
    if is_attached(model):
        raise VariantError(
            type(model).__name__, "a variant is attached already", accepted="detach(model) first"
        )
    return probe(model, example)


def _hang(model, pairs, found: list[Found], chosen: list[Found], example, *, edit_weights: bool) -> nn.Module:
    """Build everything first, so that a refusal leaves the model as it was; then touch it."""
    classes = [registry.find(name) for name, _ in pairs]
    for (name, options), cls in zip(pairs, classes):
        registry.check_options(cls, name, options)
    variants = {f.module: [cls(f.site, **o) for (_, o), cls in zip(pairs, classes)] for f in chosen}
    _refuse_two_normalizers(variants)
    _refuse_wrong_gains(variants)
    _refuse_own_terms(chosen, variants)
    _refuse_narrow_scores(model, chosen, variants)
    _share(list(variants.values()))
    edits = _weight_edits(model, chosen, variants, example)
    for f in found:
        kernel = kernel_function(f.module, f.kernel_name)
        stack = Stack(variants.get(f.module, []), kernel, f.kernel_name, f.site)
        stack.to(_device(model, f.module)).train(f.module.training)
        stack.recipe = pairs if f.module in variants else []
        stack.weight_edits = edits.get(f.module, [])
        for block, factor in stack.weight_edits if edit_weights else ():
            block.multiply(f.module, factor)
        setattr(f.module, ATTRIBUTE, stack)
    for config in attention_configs(model):
        name = NAMES.get(config._attn_implementation, config._attn_implementation)
        config._attn_implementation_internal = name
        config.attn_implementation = name  # lands in config.json: what is saved now cannot load as stock
    return model


def detach(model: nn.Module) -> nn.Module:
    """Take every variant off again and return the model: its own kernels, and its weights where `attach`
    edited them."""
    with_stack = [module for module in model.modules() if isinstance(getattr(module, ATTRIBUTE, None), Stack)]
    for module in with_stack:
        for block, factor in getattr(module, ATTRIBUTE).weight_edits:
            block.multiply(module, 1 / factor)
        delattr(module, ATTRIBUTE)
    for config in attention_configs(model):
        config._attn_implementation_internal = stock_kernel_name(config)
        if "attn_implementation" in vars(config):
            del config.attn_implementation
    return model


def is_attached(model: nn.Module) -> bool:
    return any(isinstance(module, Stack) for module in model.modules())


def attached(model: nn.Module) -> list[tuple[nn.Module, Stack]]:
    """The attention modules that carry a stack, in order of execution; an empty stack is stock attention."""
    pairs = [
        (m, getattr(m, ATTRIBUTE)) for m in model.modules() if isinstance(getattr(m, ATTRIBUTE, None), Stack)
    ]
    return sorted(pairs, key=lambda pair: pair[1].site.index)


def variant_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that the variants brought, by their name in `model`; a shared one appears once."""
    return {name: p for name, p in model.named_parameters() if f".{ATTRIBUTE}." in f".{name}"}


def select(found: list[Found], where: Any) -> list[Found]:
    """The sites that `where` names. Raises VariantError when there are none, saying what exists."""
    kind, stack, layers = (_field(where, name) for name in ("kind", "stack", "layers"))
    for name, value, accepted in (
        ("kind", kind, ("all", "self", "cross")),
        ("stack", stack, ("all", *_STACKS)),
    ):
        if value not in (None, *accepted):
            raise VariantError(f"where.{name}", "not accepted", value, f"one of {', '.join(accepted)}")
    numbers = None if layers is None else _numbers(layers)

    def fits(site: Site) -> bool:
        return (
            (kind in (None, "all") or site.is_cross == (kind == "cross"))
            and stack in (None, "all", site.stack)
            and (numbers is None or site.layer in numbers)
        )

    chosen = [f for f in found if fits(f.site)]
    if not chosen:
        asked = {"kind": kind, "stack": stack, "layers": layers}
        raise VariantError("where", "no attention site matches", asked, f"the model has {_summary(found)}")
    return chosen


_STACKS = ("encoder", "decoder")


def _field(where: Any, name: str) -> Any:
    if where is None:
        return None
    return where.get(name) if isinstance(where, Mapping) else getattr(where, name)


def _numbers(layers: str | int) -> set[int]:
    numbers: set[int] = set()
    for part in str(layers).split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None:
            raise VariantError(
                "where.layers", "not a list of layers", str(layers), 'numbers and ranges such as "0-3,5"'
            )
        first, last = int(match[1]), int(match[2] or match[1])
        numbers |= set(range(first, last + 1))
    return numbers


def _summary(found: list[Found]) -> str:
    groups: dict[str, list[int]] = {}
    for f in found:
        groups.setdefault(f"{f.site.stack} {'cross' if f.site.is_cross else 'self'}-attention", []).append(
            f.site.layer
        )
    return ", ".join(f"{name} in layers {min(layers)}-{max(layers)}" for name, layers in groups.items())


def _device(model: nn.Module, module: nn.Module):
    return next((p.device for p in module.parameters()), model.device)


def _refuse_two_normalizers(variants: dict[nn.Module, list[Variant]]) -> None:
    for members in variants.values():
        normalizers = [type(v).__name__ for v in members if "normalize" in v.hooks]
        if len(normalizers) > 1:
            raise VariantError("attention", "only one variant can replace the softmax", normalizers)


def _refuse_wrong_gains(variants: dict[nn.Module, list[Variant]]) -> None:
    """A gain of another shape would be broadcast over something else, or stop the first forward."""
    for variant in (v for members in variants.values() for v in members):
        site = variant.site
        fitting = (site.num_heads, 1), (site.num_heads, site.head_dim)
        for hook in variant.hooks & {"query_gain", "output_gain"}:
            shape = tuple(getattr(variant, hook)().shape)
            if shape not in fitting:
                what = f"{hook} of {type(variant).__name__} does not fit the heads of this site"
                raise VariantError(site.name, what, shape, f"a shape of {fitting[0]} or {fitting[1]}")


def _refuse_own_terms(chosen: list[Found], variants: dict[nn.Module, list[Variant]]) -> None:
    for f in chosen:
        sees_scores = [type(v).__name__ for v in variants[f.module] if v.hooks & set(SCORE_HOOKS)]
        if f.own_terms and sees_scores:
            raise VariantError(
                f.site.name,
                f"this model has its own `{f.own_terms[0]}` inside the softmax, which a variant that sees "
                "the scores cannot replace",
                sees_scores[0],
                "a variant that runs on the kernel (attnlab ls variants)",
            )


def _refuse_narrow_scores(model, chosen: list[Found], variants: dict[nn.Module, list[Variant]]) -> None:
    """The eager kernel writes scores in the model's type: without the model's factor, float16 overflows at
    65504 and bfloat16 keeps 3 digits. sdpa and the explicit path form them in float32."""
    if model.dtype not in (torch.float16, torch.bfloat16):
        return
    for f in chosen:
        rescaled = [type(v).__name__ for v in variants[f.module] if "scale" in v.hooks]
        if f.kernel_name == "eager" and rescaled:
            raise VariantError(
                f.site.name,
                f"with another factor, scores formed in {str(model.dtype).removeprefix('torch.')} by the "
                "eager kernel can overflow or lose their digits",
                rescaled[0],
                'load the model with attn_implementation="sdpa", or in float32',
            )


def _share(stacks: list[list[Variant]]) -> None:
    """Give all sites the first site's parameter where a variant says that it is one for the whole model."""
    for position, owner in enumerate(stacks[0]):
        for stack in stacks[1:]:
            for name in owner.shared():
                setattr(stack[position], name, getattr(owner, name))


def _weight_edits(model, chosen: list[Found], variants: dict, example) -> dict[nn.Module, list]:
    """(block, factor) pairs that keep the function where a variant compensates for its new scale."""
    factors: dict[nn.Module, float] = {}
    for f in chosen:
        factors[f.module] = 1.0
        for variant in variants[f.module]:
            factors[f.module] *= variant.weight_factor()
    edited = [f for f in chosen if factors[f.module] != 1.0]
    if not edited:
        return {}
    blocks = head_blocks(model, edited, "query", example)
    refuse_shared_weights(blocks)
    return {m: [(block, factors[m]) for head in heads for block in head] for m, heads in blocks.items()}
