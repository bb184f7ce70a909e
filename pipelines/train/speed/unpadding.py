"""Unpadding: the layers of a model compute one row of the tokens of a batch, without padding.

All parts of a layer but attention treat tokens one by one, so computing padding there is wasted work; without
it a step needs fewer micro-batches. An attention module gets the padded batch, and only its linear layers
compute the row of tokens: positions (rotary, relative), masks, kernels and variants are those of each example
by itself, and no example sees another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

import custom_attention
from custom_attention.modes import quiet
from custom_attention.runtime.dispatch import Stack
from custom_attention.runtime.forward import Arguments
from pipelines.data.features import Features, two_lengths
from pipelines.distributed.skipped import layerdrop
from pipelines.distributed.transfer import to_device
from pipelines.models.trial_inputs import shortened, tensors_of
from pipelines.tasks.base import Task
from pipelines.train.speed.token_layout import TokenLayout, up_to_last_target

# Tokens of padding in a stack; to skip fewer takes longer than to compute them (docs/benchmarks.md).
FEWEST_PADDING = 16
TOLERANCE = 3e-4  # relative to the largest output of a last layer: the square root of float32's eps

Args = tuple[Any, ...]  # positional arguments or outputs of a module
Kwargs = dict[str, Any]
Packed = tuple[Tensor, Tensor, TokenLayout]  # padded states, the tokens in them, and where these are


class Unpadding:
    """Hooks by which the layers of a model compute no padding inside `skip`; made by `unpadding_for`.

    Args:
        layers: by stack, "encoder" or "decoder".

    Attributes:
        layouts: where the tokens are in each stack in the forward that is running; None: as padded.
        fewest: the tokens of padding that are worth skipping.
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, nn.ModuleList]) -> None:
        attached = custom_attention.attached(model)
        self._model = model
        self.fewest = 1
        self._reads_another = {stack.site.stack for _, stack in attached if stack.site.is_cross}
        self._known: dict[str, list[TokenLayout]] = {}  # by stack, those that its states may have
        self.layouts: dict[str, TokenLayout | None] = {}
        self._sites = [
            _Site(module, stack, _projection(model, stack), self.layouts) for module, stack in attached
        ]
        self._hooks = [hook for name, own in layers.items() for hook in self._at(name, own)]

    def _at(self, name: str, layers: nn.ModuleList) -> Iterator[Any]:
        """Register the hooks of a stack, which its states pass where they enter and leave the layers."""

        def enter(layer: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
            if not self._known:
                return None
            layout = self.layouts[name] = self._choose(name, args[0] if args else kwargs["hidden_states"])
            if layout is None:
                return None
            if args:
                return (layout.pack(args[0]), *args[1:]), kwargs
            return args, kwargs | {"hidden_states": layout.pack(kwargs["hidden_states"])}

        def leave(layer: nn.Module, args: Args, output: Tensor | Args) -> Tensor | Args | None:
            layout = self.layouts.get(name)
            if layout is None:
                return None
            if isinstance(output, tuple):
                return (layout.spread(output[0]), *output[1:])
            return layout.spread(output)

        yield layers[0].register_forward_pre_hook(enter, with_kwargs=True)
        yield layers[-1].register_forward_hook(leave)

    def remove(self) -> None:
        """Remove the hooks from the model."""
        for hook in (*self._hooks, *(hook for site in self._sites for hook in site.hooks)):
            hook.remove()

    @contextmanager
    def skip(self, batch: Mapping[str, Any], device: torch.device) -> Iterator[None]:
        """Skip padding in forward and backward of one batch, inside the block.

        Args:
            batch: as the task collates it. The values of its `attention_mask` and `labels` are read, so they
                should still be on the CPU: reading them from `device` would wait for the device.
            device: where the model computes.
        """
        read = TokenLayout.of(batch["attention_mask"], device)
        written = up_to_last_target(batch.get("labels"))
        self._known.update(encoder=[read], decoder=[read])
        if written is not None:
            layouts = [TokenLayout.of(written, device), read]
            self._known.update(dict.fromkeys(self._reads_another, layouts))
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def skip_in_one_forward(self, batch: Mapping[str, Any], device: torch.device) -> Iterator[None]:
        """As `skip`, but only in the first forward of the model: those after it write texts, a token each."""
        hook = self._model.register_forward_hook(lambda *_: self._end())
        try:
            with self.skip(batch, device):
                yield
        finally:
            hook.remove()

    def _end(self) -> None:
        self._known.clear()
        self.layouts.clear()

    def _choose(self, name: str, states: Tensor) -> TokenLayout | None:
        """Return the layout of the states of a stack; None where they hold too little padding."""
        layout = next((layout for layout in self._known[name] if layout.fits(states)), None)
        if layout is None:
            raise ValueError(f"not the states of this batch: {tuple(states.shape)}")
        return layout if layout.num_padding >= self.fewest else None


def _projection(model: nn.Module, stack: Stack) -> nn.Module | None:
    return model.get_submodule(stack.site.projection) if stack.site.projection else None


class _Site:
    """The hooks of one attention module: it gets padded states, and its linear layers none.

    Args:
        projection: the layer that reads the heads' output, or None; it may lie outside `module`.
    """

    def __init__(
        self,
        module: nn.Module,
        stack: Stack,
        projection: nn.Module | None,
        layouts: Mapping[str, TokenLayout | None],
    ) -> None:
        self._stack, self._projection, self._layouts = stack, projection, layouts
        self._padded: dict[int, Packed] = {}  # padded states of this call by their `id`
        self._inside: dict[nn.Module, TokenLayout] = {}  # linear layers that run on tokens now
        linear: list[nn.Module] = [
            layer
            for layer in module.modules()
            if isinstance(layer, nn.Linear | Conv1D) or layer is projection
        ]
        self.hooks = [
            # First of all hooks, so that what variants read is padded, too.
            module.register_forward_pre_hook(self._enter, with_kwargs=True, prepend=True),
            module.register_forward_hook(self._leave),
            stack.register_forward_pre_hook(self._leave_padding_unread),
            *(layer.register_forward_pre_hook(self._enter_linear) for layer in linear),
            *(layer.register_forward_hook(self._leave_linear, prepend=True) for layer in linear),
        ]
        if projection is not None and projection not in linear and stack.having("projected"):
            spread, pack = self._spread_projected, self._pack_projected
            self.hooks += [projection.register_forward_hook(spread, prepend=True)]
            self.hooks += [projection.register_forward_hook(pack)]

    @property
    def _layout(self) -> TokenLayout | None:
        return self._layouts.get(self._stack.site.stack)

    def _enter(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        """Put the tokens of the hidden states back, and take those of an encoder's out for its keys."""
        self._padded, self._inside = {}, {}
        layout, site = self._layout, self._stack.site
        of_keys = self._layouts.get("encoder") if site.is_cross else None
        if of_keys is not None:
            states = self._argument(site.key_input, args, kwargs)
            self._padded[id(states)] = states, of_keys.pack(states), of_keys
        if layout is None:
            return None
        tokens = self._argument(site.query_input, args, kwargs)
        padded = self._spread(tokens, layout)
        args = tuple(padded if value is tokens else value for value in args)
        return args, {name: padded if value is tokens else value for name, value in kwargs.items()}

    def _leave(self, module: nn.Module, args: Args, output: Tensor | Args) -> Tensor | Args | None:
        layout, known = self._layout, self._padded
        self._padded, self._inside = {}, {}
        if layout is None:
            return None
        states, *others = output if isinstance(output, tuple) else (output,)
        packed = known[id(states)][1] if id(states) in known else layout.pack(states)
        return (packed, *others) if isinstance(output, tuple) else packed

    def _leave_padding_unread(self, stack: nn.Module, args: Args) -> Args | None:
        """Tell the kernel which queries are padding, whose output is dropped."""
        layout = self._layout
        return None if layout is None else (*args, layout.ends)

    def _enter_linear(self, layer: nn.Module, args: Args) -> Args | None:
        states, layout = args[0], self._layout
        if id(states) in self._padded:
            _, tokens, self._inside[layer] = self._padded[id(states)]
        elif layer is self._projection and layout is not None:
            tokens, self._inside[layer] = layout.pack(states), layout
        else:
            return None
        return (tokens, *args[1:])

    def _leave_linear(self, layer: nn.Module, args: Args, output: Tensor) -> Tensor | None:
        layout = self._inside.pop(layer, None)
        return None if layout is None else self._spread(output, layout)

    def _spread(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """Return the padded states of tokens, and keep in mind for this call which they are."""
        padded = layout.spread(tokens)
        self._padded[id(padded)] = padded, tokens, layout
        return padded

    def _spread_projected(self, layer: nn.Module, args: Args, output: Tensor) -> Tensor | None:
        return None if self._layout is None else self._layout.spread(output)

    def _pack_projected(self, layer: nn.Module, args: Args, output: Tensor) -> Tensor | None:
        return None if self._layout is None else self._layout.pack(output)

    def _argument(self, name: str, args: Args, kwargs: Kwargs) -> Tensor:
        found = Arguments(args, kwargs).get(name, self._stack.positions.get(name))
        if not isinstance(found, Tensor):
            raise ValueError(f"{self._stack.site.name}: no states under the name {name!r}")
        return found


def unpadding_for(model: PreTrainedModel, task: Task, batch: dict[str, Any]) -> Unpadding | None:
    """Return an `Unpadding` for the layers of `model`; None where it would change the model's outputs.

    A layer may mix tokens outside attention (convolutions). This is tested on `batch`, which must have
    padding.
    """
    mask, layers = batch.get("attention_mask"), layers_of(model)
    if mask is None or mask.ndim != 2 or layers is None:
        return None
    unpadding = Unpadding(model, layers)
    whole = tensors_of(batch)
    inputs = shortened(model, whole)
    if inputs is whole:
        run: Callable[[], Any] = partial(task.loss, model, batch)
    else:
        batch = inputs | {"attention_mask": _with_padding(inputs["attention_mask"])}
        run = partial(model, **batch)
    if _same_states(model, run, batch, layers, unpadding):
        unpadding.fewest = FEWEST_PADDING
        return unpadding
    unpadding.remove()
    return None


def _with_padding(mask: Tensor) -> Tensor:
    """Return a mask whose last row ends with padding."""
    mask = mask.clone()
    mask[-1, mask.shape[1] // 2 :] = 0
    return mask


@contextmanager
def unpadded(
    model: PreTrainedModel, task: Task, features: Features, device: torch.device
) -> Iterator[Unpadding | None]:
    """Give `unpadding_for` of a batch of two features, and remove it from the model after the block."""
    unpadding = unpadding_for(model, task, to_device(task.collate(two_lengths(features)), device))
    try:
        yield unpadding
    finally:
        if unpadding is not None:
            unpadding.remove()


def layers_of(model: PreTrainedModel) -> dict[str, nn.ModuleList] | None:
    """Return the layers of each stack, if each has one self-attention site and none is skipped at random.

    Cross-attention must lie in them, too.
    """
    if layerdrop(model):
        return None
    attached = custom_attention.attached(model)
    if any(stack.site.kind == "merged" for _, stack in attached):  # its keys are those of two stacks
        return None
    found = {}
    for name in {stack.site.stack for _, stack in attached}:
        own = {module for module, stack in attached if stack.site.stack == name and not stack.site.is_cross}
        cross = {module for module, stack in attached if stack.site.stack == name and stack.site.is_cross}
        lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
        layers = next((layers for layers in lists if _holds_one_each(layers, own)), None)
        if layers is None or not cross <= set(layers.modules()):
            return None
        found[name] = layers
    return found


def _holds_one_each(layers: nn.ModuleList, own: set[nn.Module]) -> bool:
    return [sum(module in own for module in layer.modules()) for layer in layers] == [1] * len(own)


def _same_states(
    model: PreTrainedModel,
    run: Callable[[], Any],
    batch: dict[str, Any],
    layers: Mapping[str, nn.ModuleList],
    unpadding: Unpadding,
) -> bool:
    """Return whether the outputs of the last layers at tokens are the same with and without padding.

    Args:
        run: runs the model on `batch`.
    """
    outputs: dict[nn.Module, Tensor] = {}  # of a layer that is shared, those of the last time

    def keep(layer: nn.Module, args: Args, output: Tensor | Args) -> None:
        outputs[layer] = output[0] if isinstance(output, tuple) else output

    hooks = [own[-1].register_forward_hook(keep) for own in layers.values()]
    try:
        with quiet(model), torch.no_grad():
            run()
            padded = dict(outputs)
            with unpadding.skip(batch, batch["attention_mask"].device):
                run()
                layouts = dict(unpadding.layouts)
            return all(
                _same(outputs[own[-1]], padded[own[-1]], layouts[name]) for name, own in layers.items()
            )
    except Exception:  # any model: most often a layer needs to know which example a token is of
        return False
    finally:
        for hook in hooks:
            hook.remove()


def _same(unpadded: Tensor, padded: Tensor, layout: TokenLayout | None) -> bool:
    """Return whether states are equal at tokens, up to rounding."""
    bound = TOLERANCE * float(padded.abs().max())
    if layout is not None:
        unpadded, padded = layout.pack(unpadded), layout.pack(padded)
    return torch.allclose(unpadded, padded, rtol=0.0, atol=bound, equal_nan=True)
