"""Find the attention modules of a model, by one forward in which every attention call is observed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from custom_attention.dummy_inputs import made_up_example
from custom_attention.errors import VariantError
from custom_attention.kernel_names import (
    attention_config,
    attention_configs,
    dispatching,
    stock_kernel_name,
)
from custom_attention.modes import quiet
from custom_attention.position_tables import PositionTables
from custom_attention.runtime.dispatch import ATTRIBUTE, NAMES, Stack, observed
from custom_attention.runtime.kernel import OWN_SCORE_TERMS, hides_later_keys
from custom_attention.runtime.tokens import visible
from custom_attention.site import Site


@dataclass(frozen=True)
class Found:
    """A site with its module.

    Attributes:
        kernel_name: the kernel that the model calls there, "sdpa" or "eager".
        own_terms: arguments of the model for its softmax besides scores, bias and mask.
    """

    site: Site
    module: nn.Module
    kernel_name: str
    own_terms: tuple[str, ...] = ()


@dataclass
class _Observed:
    """The attention calls of one module: what the last one was, and whether its keys are cross keys."""

    order: int
    query_shape: torch.Size
    num_key_heads: int
    scaling: float | None
    kwargs: Mapping[str, Any]
    is_cross: bool
    inputs: Mapping[str, Tensor] = field(default_factory=dict)  # by argument: where the graph is cut
    sources: tuple[str, str] = ("", "")  # the arguments that hold what queries, and keys, are made from
    more_keys: str = ""  # at merged attention, the argument that holds what the further keys are made from
    mask: Tensor | None = None
    num_keys: int = 0


def sites(model: PreTrainedModel, example: Mapping[str, Any] | None = None) -> list[Site]:
    """Return the attention sites of `model` in order of execution.

    Where nothing is attached, they are found by one forward on `example`, as `probe` does.
    """
    stacks: list[Stack] = [getattr(m, ATTRIBUTE) for m in model.modules() if hasattr(m, ATTRIBUTE)]
    if stacks:
        return sorted((stack.site for stack in stacks), key=lambda site: site.index)
    return [found.site for found in probe(model, example)]


def probe(model: PreTrainedModel, example: Mapping[str, Any] | None = None) -> list[Found]:
    """Run `model` on `example` and return every attention module that the forward reached.

    Args:
        example: keyword arguments of one forward; made up from the config when None.

    Raises:
        VariantError: the model does not dispatch through transformers' attention interface, its kernel was
            not measured, or no example can be made up.
    """
    if example is not None and not isinstance(example, Mapping):
        what = "an example is the keyword arguments of one forward"
        raise VariantError(
            "example", what, type(example).__name__, "a dict of tensors, as a tokenizer gives it"
        )
    calls: dict[nn.Module, _Observed] = {}
    projections, tables = _Projections(), PositionTables()

    def observe(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scaling: float | None,
        kwargs: Mapping[str, Any],
    ) -> Tensor:
        before = calls.get(module)
        order = len(calls) if before is None else before.order
        inputs = {} if before is None else before.inputs
        sources = _source(query, inputs), _source(key, inputs)
        more_keys = _source_of_more_keys(query, key, inputs, sources[0])
        if inputs:
            is_cross = not _depends(key, next(iter(inputs.values())))
        else:
            is_cross = query.shape[2] != key.shape[2] if before is None else before.is_cross
        calls[module] = _Observed(
            order,
            query.shape,
            key.shape[1],
            scaling,
            kwargs,
            is_cross,
            inputs,
            sources,
            more_keys,
            mask,
            key.shape[2],
        )
        output = query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[-1])
        projections.outputs[module] = output
        return output

    kernels = {id(config): stock_kernel_name(config) for config in attention_configs(model)}
    with quiet(model), dispatching(model), observed(observe):
        batch = dict(example) if example is not None else made_up_example(model)
        calls.clear()  # made_up_example ran forwards too
        failure = _try_forward(model, batch, grad=False)
        if calls and failure is None:
            with _cutting_graph_at_inputs(calls), projections.observed(model), tables.observed(model):
                failure = _try_forward(model, batch, grad=True)
        _require_calls(model, example, bool(calls), failure)
        return _describe(model, calls, projections.found, tables, kernels)


def _require_calls(
    model: PreTrainedModel, example: Mapping[str, Any] | None, reached: bool, failure: Exception | None
) -> None:
    """Refuse a model whose forward stopped with `failure`, or reached no attention."""
    if not reached and failure is not None:
        raise VariantError(
            type(model).__name__,
            f"before any attention its forward stopped with {type(failure).__name__}: {failure}",
            accepted="give inputs that fit its config (example=, a dict of tensors)",
        ) from failure
    if not reached:
        raise VariantError(
            type(model).__name__,
            "its attention does not go through transformers' attention interface",
            accepted="choose a model that dispatches (BERT, GPT-2, T5, Llama, ...), write its adapter "
            "(docs/attach.md)" + (" or pass example=batch" if example is None else ""),
        )
    if failure is not None:
        raise VariantError(
            type(model).__name__,
            f"a forward to find its attention modules stopped with {type(failure).__name__}: {failure}",
            accepted="pass example= with a real batch, a dict of tensors",
        ) from failure


def _depends(tensor: Tensor, source: Tensor) -> bool:
    if not tensor.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(tensor.sum(), source, retain_graph=True, allow_unused=True)
    return gradient is not None


def _source(states: Tensor, inputs: Mapping[str, Tensor]) -> str:
    """Return the first argument (batch, len, size) that queries or keys depend on, or ""."""
    made_from = (name for name, leaf in inputs.items() if leaf.dim() == 3 and _depends(states, leaf))
    return next(made_from, "")


def _source_of_more_keys(query: Tensor, key: Tensor, inputs: Mapping[str, Tensor], own: str) -> str:
    """Return the argument that holds the states of keys behind the queries' own, of another stack, or ""."""
    if not own or key.shape[2] <= query.shape[2]:
        return ""
    first, more = key[:, :, : query.shape[2]], key[:, :, query.shape[2] :]
    if not _reaches(inputs[own], first) or _reaches(inputs[own], more):
        return ""
    fitting = {n: leaf for n, leaf in inputs.items() if leaf.dim() == 3 and leaf.shape[1] == more.shape[2]}
    return next((name for name, leaf in fitting.items() if _reaches(leaf, more)), "")


def _reaches(source: Tensor, states: Tensor) -> bool:
    """Return whether a change of `source` changes these rows, which can be a part of what depends on it."""
    if not states.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(states.sum(), source, retain_graph=True, allow_unused=True)
    return gradient is not None and bool(gradient.any())


class _Projections:
    """Finds the linear layer that reads the output of each attention module as it is.

    Attributes:
        outputs: the last output of each attention module.
        found: the layer, and the length of its output.
    """

    def __init__(self) -> None:
        self.outputs: dict[nn.Module, Tensor] = {}
        self.found: dict[nn.Module, tuple[nn.Module, int]] = {}

    @contextmanager
    def observed(self, model: nn.Module) -> Iterator[None]:
        """Look for the layers in the forwards of the block."""
        weights = ((module, getattr(module, "weight", None)) for module in model.modules())
        linear = [module for module, weight in weights if isinstance(weight, Tensor) and weight.dim() == 2]
        handles = [module.register_forward_hook(self._compare) for module in linear]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _compare(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        read = args[0] if args else None
        for module, of_heads in self.outputs.items():
            if isinstance(read, Tensor) and read.dim() == 3 and read.data_ptr() == of_heads.data_ptr():
                self.found.setdefault(module, (layer, output.shape[-1]))


def _try_forward(model: nn.Module, batch: Mapping[str, Any], grad: bool) -> Exception | None:
    try:
        with torch.set_grad_enabled(grad):
            model(**batch)
    except Exception as error:  # any model, any example: the caller reports it
        return error
    return None


@contextmanager
def _cutting_graph_at_inputs(calls: dict[nn.Module, _Observed]) -> Iterator[None]:
    """Cut the graph at the inputs of each attention module: cross keys do not depend on the first."""

    def cut(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        given = dict(zip(inspect.signature(module.forward).parameters, args)) | {
            name: kwargs[name] for name in ("hidden_states", *kwargs) if name in kwargs
        }
        tensors = {n: v for n, v in given.items() if torch.is_tensor(v) and v.is_floating_point()}
        first = next(iter(tensors), None)
        if first is None:
            return None
        # Masks and biases have other dimensions.
        cut = {n: v for n, v in tensors.items() if n == first or v.dim() == 3}
        # One leaf for one tensor: some modules take the same tensor as query, as key and as value.
        leaves = {id(value): value.detach().requires_grad_() for value in cut.values()}
        calls[module].inputs = {n: leaves[id(value)] for n, value in cut.items()}
        args = tuple(leaves.get(id(value), value) for value in args)
        return args, {name: leaves.get(id(value), value) for name, value in kwargs.items()}

    handles = [module.register_forward_pre_hook(cut, with_kwargs=True) for module in calls]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _describe(
    model: PreTrainedModel,
    calls: Mapping[nn.Module, _Observed],
    projections: Mapping[nn.Module, tuple[nn.Module, int]],
    tables: PositionTables,
    kernels: Mapping[int, str],
) -> list[Found]:
    """Return what was found; `kernels` holds the model's own kernel by the id of its config."""
    names = {module: name for name, module in model.named_modules()}
    stacks = _stacks(model, calls)
    layers = _layers(names, calls, stacks)
    found = []
    for module, call in calls.items():
        kernel_name = kernels[id(_config_of(model, names[module]))]
        if kernel_name not in NAMES:
            raise VariantError(
                type(model).__name__,
                "variants were not measured on this attention kernel",
                kernel_name,
                'load the model with attn_implementation="sdpa" (or "eager")',
            )
        _, num_heads, _, head_dim = call.query_shape
        sizes = [call.inputs[name].shape[-1] if name else 0 for name in call.sources]
        projection, projected_size = projections.get(module, (None, 0))
        site = Site(
            name=names[module],
            index=call.order,
            num_sites=len(calls),
            num_heads=num_heads,
            num_key_heads=call.num_key_heads,
            head_dim=head_dim,
            scale=head_dim**-0.5 if call.scaling is None else float(call.scaling),
            is_cross=call.is_cross,
            is_causal=_is_causal(module, call),
            stack=stacks[module],
            layer=layers[module],
            hidden_size=sizes[0],
            key_hidden_size=sizes[1],
            query_input=call.sources[0],
            key_input=call.sources[1],
            more_keys_input=call.more_keys,
            has_own_keys=not call.is_cross and (bool(call.more_keys) or call.num_keys == call.query_shape[2]),
            projection="" if projection is None else names[projection],
            projected_size=projected_size,
            position_table=tables.nearest(names[module]),
            has_position_bias=call.kwargs.get("position_bias") is not None,
        )
        own_terms = tuple(name for name in OWN_SCORE_TERMS if call.kwargs.get(name) is not None)
        found.append(Found(site, module, kernel_name, own_terms))
    return found


def _is_causal(module: nn.Module, call: _Observed) -> bool:
    if call.more_keys and call.mask is not None:  # one mask for both kinds of keys
        query_len = call.query_shape[2]
        own = visible(call.mask)[..., :query_len]
        return query_len > 1 and not bool(own.triu(1).any())
    causal = hides_later_keys(module, call.kwargs.get("is_causal"))
    return causal and not call.is_cross


def _config_of(model: nn.Module, name: str) -> PreTrainedConfig:
    """Return the config of the module `name`, or of the nearest module around it that has one."""
    path = name.split(".")
    around = (model.get_submodule(".".join(path[:n])) for n in range(len(path), -1, -1))
    return next(config for module in around if (config := attention_config(module)) is not None)


def _stacks(model: PreTrainedModel, calls: Mapping[nn.Module, _Observed]) -> dict[nn.Module, str]:
    if getattr(model.config, "is_encoder_decoder", False):
        encoder = set(model.get_encoder().modules())
        return {module: "encoder" if module in encoder else "decoder" for module in calls}
    causal = any(_is_causal(module, call) for module, call in calls.items())
    return dict.fromkeys(calls, "decoder" if causal else "encoder")


def _layers(
    names: Mapping[nn.Module, str],
    calls: Mapping[nn.Module, _Observed],
    stacks: Mapping[nn.Module, str],
) -> dict[nn.Module, int]:
    """Return each module's layer: the first number in its path, if it differs between the sites of a stack;
    else the order of execution."""
    groups: dict[tuple[str, bool], list[nn.Module]] = {}
    for module, call in calls.items():
        groups.setdefault((stacks[module], call.is_cross), []).append(module)
    layers: dict[nn.Module, int] = {}
    for members in groups.values():
        numbers = [re.search(r"\.(\d+)(\.|$)", "." + names[module]) for module in members]
        numbered = [int(number[1]) for number in numbers if number]
        usable = len(set(numbered)) == len(members)
        layers.update(zip(members, numbered if usable else range(len(members))))
    return layers
