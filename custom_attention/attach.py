"""Attach variants to the attention sites of a model, and detach them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel

from custom_attention import adapters, registry
from custom_attention.errors import VariantError
from custom_attention.head_weights import head_blocks, refuse_shared_weights
from custom_attention.hook_names import refuse_wrong_hooks
from custom_attention.kernel_names import attention_configs, stock_kernel_name
from custom_attention.runtime.adapter import put_on, take_off
from custom_attention.runtime.dispatch import ATTRIBUTE, NAMES, EditedWeight, Recipe, Stack, put, take
from custom_attention.runtime.forward import ForwardState
from custom_attention.runtime.restored_model import kernel_function
from custom_attention.sites import Found, probe
from custom_attention.user_code import told
from custom_attention.variant import SCORE_HOOKS, Site, Variant

Model = TypeVar("Model", bound=PreTrainedModel)
AnyModule = TypeVar("AnyModule", bound=nn.Module)
WeightEdits = list[tuple[EditedWeight, float]]


class Where(Protocol):
    """Which sites: the fields of `where` in `attach`."""

    @property
    def kind(self) -> str | None: ...

    @property
    def stack(self) -> str | None: ...

    @property
    def layers(self) -> str | int | None: ...


def attach(
    model: Model,
    spec: Any,
    *,
    where: Where | Mapping[str, Any] | None = None,
    example: Mapping[str, Any] | None = None,
) -> Model:
    """Swap the attention of `model` in place and return it.

    Attach after `from_pretrained` and before the optimizer is built.

    Args:
        model: any transformers model whose attention dispatches, on the sdpa or eager kernel.
        spec: a variant name, {name: options}, or a list of those in order; [] is stock attention through the
            dispatcher of this package, the control of an ablation.
        where: which sites, an object or dict with `kind` ("all", "self", "cross", "merged"), `stack` ("all",
            "encoder", "decoder") and `layers` ("0-3,5", counted within the stack, or None); None is every
            site.
        example: keyword arguments of one forward of the model that reaches every attention module; made up
            from the config when None.

    Raises:
        VariantError: the model does not dispatch, no site matches, an option is unknown, a class has no hook
            or a method that is none, or a variant cannot be used at a site.
    """
    recipe = registry.parse(spec)
    for name, _ in recipe:
        refuse_wrong_hooks(registry.find(name), name)
    found = _find_sites(model, example)
    return _attach(model, recipe, found, select(found, where), example, edit_weights=True)


def attach_saved(model: Model, recipe: Recipe, site_names: list[str]) -> Model:
    """Attach to the named sites of a model that was saved with variants, whose weights are edited already.

    Raises:
        VariantError: the model has no attention site of one of the names.
    """
    found = _find_sites(model, None)
    chosen = [f for f in found if f.site.name in set(site_names)]
    if len(chosen) != len(site_names):
        missing = sorted(set(site_names) - {f.site.name for f in chosen})
        raise VariantError(type(model).__name__, "attention sites of the saved model are missing", missing)
    return _attach(model, recipe, found, chosen, None, edit_weights=False)


def _find_sites(model: PreTrainedModel, example: Mapping[str, Any] | None) -> list[Found]:
    if is_attached(model):
        raise VariantError(
            type(model).__name__, "a variant is attached already", accepted="detach(model) first"
        )
    return probe(model, example)


def _attach(
    model: Model,
    recipe: Recipe,
    found: list[Found],
    chosen: list[Found],
    example: Mapping[str, Any] | None,
    *,
    edit_weights: bool,
) -> Model:
    """Build and check everything before the model is changed, so that an error leaves it unchanged."""
    classes = [registry.find(name) for name, _ in recipe]
    for (name, options), cls in zip(recipe, classes):
        registry.check_options(cls, name, options)
    # In evaluation mode until the stack gets the mode of its module: a gain may draw numbers in training.
    variants = {
        f.module: [_built(name, cls, f.site, o) for (name, o), cls in zip(recipe, classes)] for f in chosen
    }
    _refuse_two_replacements(variants)
    _refuse_lost_projections(variants)
    _refuse_wrong_gains(variants)
    _refuse_part_of_a_table(found, variants)
    _refuse_own_terms(chosen, variants)
    _refuse_narrow_scores(model, chosen, variants)
    _share_parameters(list(variants.values()))
    edits = _weight_edits(model, chosen, variants, example)
    state = ForwardState()
    put_on(model, adapters.of(model))
    for f in found:
        kernel = kernel_function(f.module, f.kernel_name)
        stack = Stack(variants.get(f.module, []), kernel, f.kernel_name, f.site, state)
        stack.to(_device(model, f.module)).train(f.module.training)
        stack.recipe = recipe if f.module in variants else []
        stack.weight_edits = edits.get(f.module, [])
        for block, factor in stack.weight_edits if edit_weights else ():
            block.multiply(f.module, factor)
        put(model, f.module, stack)
    for config in attention_configs(model):
        name = NAMES.get(config._attn_implementation, config._attn_implementation)
        config._attn_implementation_internal = name
        # Written to config.json: stock classes refuse the checkpoint instead of loading stock attention.
        config.attn_implementation = name
    return model


def _built(name: str, cls: type[Variant], site: Site, options: Mapping[str, Any]) -> Variant:
    """Build a variant for a site, in evaluation mode."""
    try:
        return cls(site, **options).eval()
    except VariantError:
        raise
    except Exception as error:  # the user's own code may raise anything
        fix = "its __init__ takes the site, then options by name, and begins with super().__init__(site)"
        raise VariantError(name, f"cannot be built: {told(error)}", accepted=fix) from error


def detach(model: AnyModule) -> AnyModule:
    """Remove every variant and return the model, with its own kernels and the weights before `attach`."""
    for module, stack in attached(model):
        for block, factor in stack.weight_edits:
            block.multiply(module, 1 / factor)
        take(model, module)
    take_off(model.modules())
    for config in attention_configs(model):
        config._attn_implementation_internal = stock_kernel_name(config)
        if "attn_implementation" in vars(config):
            del config.attn_implementation
    return model


def is_attached(model: nn.Module) -> bool:
    """Return whether variants, or stock attention through the dispatcher, are attached."""
    return any(isinstance(module, Stack) for module in model.modules())


def attached(model: nn.Module) -> list[tuple[nn.Module, Stack]]:
    """Return the attention modules with their stacks, in order of execution; an empty stack is stock."""
    pairs = [
        (module, stack)
        for module in model.modules()
        if isinstance(stack := getattr(module, ATTRIBUTE, None), Stack)
    ]
    return sorted(pairs, key=lambda pair: pair[1].site.index)


def variant_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of the variants by their name in `model`; a shared one appears once."""
    return {name: p for name, p in model.named_parameters() if f".{ATTRIBUTE}." in f".{name}"}


def select(found: list[Found], where: Where | Mapping[str, Any] | None) -> list[Found]:
    """Return the sites that `where` selects.

    Raises:
        VariantError: a field of `where` is not accepted, or no site matches; it names what the model has.
    """
    kind, stack, layers = (_field(where, name) for name in ("kind", "stack", "layers"))
    for name, value, accepted in (
        ("kind", kind, ("all", *KINDS)),
        ("stack", stack, ("all", *_STACKS)),
    ):
        if value not in (None, *accepted):
            raise VariantError(f"where.{name}", "not accepted", value, f"one of {', '.join(accepted)}")
    numbers = None if layers is None else _numbers(layers)

    def fits(site: Site) -> bool:
        return (
            kind in (None, "all", site.kind)
            and stack in (None, "all", site.stack)
            and (numbers is None or site.layer in numbers)
        )

    chosen = [f for f in found if fits(f.site)]
    if not chosen:
        asked = {"kind": kind, "stack": stack, "layers": layers}
        raise VariantError("where", "no attention site matches", asked, f"the model has {_summary(found)}")
    return chosen


KINDS = ("self", "cross", "merged")
_STACKS = ("encoder", "decoder")


def _field(where: Where | Mapping[str, Any] | None, name: str) -> Any:
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
        groups.setdefault(f"{f.site.stack} {f.site.kind}-attention", []).append(f.site.layer)
    return ", ".join(f"{name} in layers {min(layers)}-{max(layers)}" for name, layers in groups.items())


def _device(model: PreTrainedModel, module: nn.Module) -> torch.device:
    return next((p.device for p in module.parameters()), model.device)


def _refuse_two_replacements(variants: dict[nn.Module, list[Variant]]) -> None:
    """Refuse a second variant that replaces the same part, and one that sees scores where there are none."""
    for members in variants.values():
        for hook, what in (
            ("normalize", "the softmax"),
            ("dropout", "the dropout"),
            ("attend", "the kernel"),
        ):
            replacing = [type(v).__name__ for v in members if hook in v.hooks]
            if len(replacing) > 1:
                raise VariantError("attention", f"only one variant can replace {what}", replacing)
        sees_scores = [type(v).__name__ for v in members if v.hooks & set(SCORE_HOOKS)]
        if sees_scores and any("attend" in v.hooks for v in members):
            what = "a variant replaces the kernel, so there are no scores for another to see"
            raise VariantError("attention", what, sees_scores[0])


def _refuse_lost_projections(variants: dict[nn.Module, list[Variant]]) -> None:
    """Refuse a variant that changes what W_o returns where no such layer was found."""
    for variant in (v for members in variants.values() for v in members):
        if "projected" in variant.hooks and not variant.site.projection:
            what = "no linear layer that reads the heads' output was found, so `projected` has no place"
            raise VariantError(variant.site.name, what, type(variant).__name__, "a variant of the output")


def _refuse_part_of_a_table(found: list[Found], variants: dict[nn.Module, list[Variant]]) -> None:
    """Refuse a variant of a table of positions that some self-attention of the table's stack has not."""
    having = {
        f.site.position_table: type(v).__name__
        for f in found
        for v in variants.get(f.module, [])
        if "position_embedding" in v.hooks
    }
    for f in found:
        table = f.site.position_table
        members = variants.get(f.module, [])
        if (
            table in having
            and not f.site.is_cross
            and not any("position_embedding" in v.hooks for v in members)
        ):
            what = f"all layers add {table} once, so no layer can keep it alone, as {f.site.name} would"
            raise VariantError(f"where, for {having[table]}", what, accepted="a whole stack, without layers")


def _refuse_wrong_gains(variants: dict[nn.Module, list[Variant]]) -> None:
    """Refuse a gain of another shape, which would broadcast over another axis or stop the first forward."""
    for variant in (v for members in variants.values() for v in members):
        site = variant.site
        fitting = (site.num_heads, 1), (site.num_heads, site.head_dim)
        for hook in variant.hooks & {"query_gain", "output_gain"}:
            gain = variant.query_gain() if hook == "query_gain" else variant.output_gain()
            shape = tuple(gain.shape)
            if shape not in fitting:
                what = f"{hook} of {type(variant).__name__} does not fit the heads of this site"
                raise VariantError(site.name, what, shape, f"a shape of {fitting[0]} or {fitting[1]}")


def _refuse_own_terms(chosen: list[Found], variants: dict[nn.Module, list[Variant]]) -> None:
    """Refuse a variant that sees the scores where the model's own softmax has more terms."""
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


def _refuse_narrow_scores(
    model: PreTrainedModel, chosen: list[Found], variants: dict[nn.Module, list[Variant]]
) -> None:
    """Refuse another factor on the scores in 16 bits on the eager kernel.

    That kernel forms scores in the model's type: without the model's factor, float16 overflows at 65504 and
    bfloat16 keeps 3 digits. sdpa and the explicit path form them in float32.
    """
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


def _share_parameters(stacks: list[list[Variant]]) -> None:
    """Give all sites the first site's parameters that the variant declares as shared."""
    for position, owner in enumerate(stacks[0]):
        for stack in stacks[1:]:
            for name in owner.shared():
                setattr(stack[position], name, getattr(owner, name))


def _weight_edits(
    model: PreTrainedModel,
    chosen: list[Found],
    variants: dict[nn.Module, list[Variant]],
    example: Mapping[str, Any] | None,
) -> dict[nn.Module, WeightEdits]:
    """Return the blocks of W_q and their factors where a variant compensates for its new scale."""
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
