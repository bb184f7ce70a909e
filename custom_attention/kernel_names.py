"""Which kernel a model calls, by the names in its configs: its own one, or the dispatcher of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedConfig

from custom_attention import adapters
from custom_attention.runtime.adapter import put_on, take_off
from custom_attention.runtime.dispatch import NAMES, on_own_kernels

_STOCK_NAMES = {name: kernel for kernel, name in NAMES.items()}


def attention_configs(model: nn.Module) -> list[PreTrainedConfig]:
    """Return every config object from which a module of `model` reads the name of its attention kernel."""
    found: dict[int, PreTrainedConfig] = {}
    for module in model.modules():
        config = attention_config(module)
        if config is not None:
            found[id(config)] = config
    return list(found.values())


def attention_config(module: nn.Module) -> PreTrainedConfig | None:
    """Return the config from which a module reads the name of its attention kernel, or None."""
    config = getattr(module, "config", None)
    return config if hasattr(config, "_attn_implementation_internal") else None


@contextmanager
def dispatching(model: nn.Module) -> Iterator[None]:
    """Make the model call the dispatcher of this package, attached or not."""
    changed = put_on(model, adapters.of(model))
    try:
        with _renamed(model, lambda kernel: NAMES.get(kernel, NAMES["sdpa"])):
            yield
    finally:
        take_off(changed)


@contextmanager
def bypassing(model: nn.Module) -> Iterator[None]:
    """Make the model call its own kernel, as if nothing were attached."""
    take_off(model.modules())
    try:
        with on_own_kernels(), _renamed(model, lambda kernel: kernel):
            yield
    finally:
        put_on(model, adapters.of(model))


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


def stock_kernel_name(config: PreTrainedConfig) -> str:
    """Return the model's own kernel, attached or not."""
    name = str(config._attn_implementation)
    return _STOCK_NAMES.get(name, name)
