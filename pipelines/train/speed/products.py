"""Matrix products of linear layers by oneDNN, where MKL leaves half of the processor idle.

PyTorch computes products in float32 with MKL, which takes units of 512 bits on processors of Intel only.
oneDNN, which PyTorch has too, takes them on AMD's: twice as fast (docs/benchmarks.md). Results differ in
rounding.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad
from transformers.pytorch_utils import Conv1D

FEWEST_PRODUCTS = 2**22  # of two numbers, in a layer; with fewer, calling takes longer than computing
# oneDNN compiles code for each number of rows, which takes as long as a product of few rows. Fewer than
# `MANY_ROWS` are filled up to a multiple of `ROWS_STEP`, so that it has the code.
MANY_ROWS, ROWS_STEP = 128, 16
# Numbers in a matrix. oneDNN copies a larger one to turn it over, which takes as long as the product.
LARGE = 2**24

# Shapes for which compiled code is kept, by oneDNN and by PyTorch's layer above it. Each number of rows is
# another shape, of 0.3 MB in both. They keep 1,024 by default: a run of NER grew by 0.3 GiB in 160 steps.
KEPT_SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16", "LRU_CACHE_CAPACITY": "32"}


def keep_few_shapes() -> None:
    """Let oneDNN keep the code of a few shapes: those of one micro-batch, which all layers share.

    Call it before the first operation: oneDNN looks once. What the environment says already stays.
    """
    for name, shapes in KEPT_SHAPES.items():
        os.environ.setdefault(name, shapes)


def quicken_products(model: nn.Module) -> None:
    """Let the linear layers of `model` compute by oneDNN, in place."""
    for module in model.modules():
        module.__class__ = QUICK.get(type(module), type(module))


def quicken_where_it_gains(model: nn.Module, device: torch.device) -> None:
    """Call `quicken_products` where oneDNN is faster than PyTorch's MKL: on AMD's processors with AVX-512."""
    if device.type != "cpu" or not torch.cpu._is_avx512_supported():
        return
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    # The product is not among torch's documented functions: a later torch may have none.
    if has_both and hasattr(torch.ops.mkldnn, "_linear_pointwise") and _is_amd():
        quicken_products(model)


def _is_amd() -> bool:
    """Return whether Linux says that AMD made the processor; elsewhere nothing says it."""
    said = Path("/proc/cpuinfo")
    return said.exists() and "AuthenticAMD" in said.read_text(encoding="utf-8", errors="replace")


class QuickLinear(nn.Linear):
    """`nn.Linear`, by `_Affine` in float32."""

    def forward(self, states: Tensor) -> Tensor:
        if _is_plain(states, self.weight):
            return _affine(states, self.weight, self.bias, True)
        return super().forward(states)


class QuickConv1D(Conv1D):
    """transformers' `Conv1D`, a linear layer with its weight transposed, by `_Affine` in float32."""

    def forward(self, states: Tensor) -> Tensor:
        if _is_plain(states, self.weight):
            return _affine(states, self.weight, self.bias, False)
        result: Tensor = super().forward(states)
        return result


QUICK: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: QuickLinear, Conv1D: QuickConv1D}


def _is_plain(states: Tensor, weight: Tensor) -> bool:
    """Return whether these are enough numbers in float32 on a CPU."""
    on_cpu = states.device.type == weight.device.type == "cpu"
    is_float = states.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    is_large = states.shape[:-1].numel() * weight.numel() >= FEWEST_PRODUCTS
    return on_cpu and is_float and is_large and states.dim() > 1


def _affine(states: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool) -> Tensor:
    """Return states @ weight + bias, or states @ weight.t() + bias."""
    if torch.is_grad_enabled():
        return _Affine.apply(states, weight, bias, transposed)
    rows = _filled_up(states.flatten(0, -2))
    return _of_rows(rows, states, weight, bias, transposed)


def _of_rows(rows: Tensor, states: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool) -> Tensor:
    output = _product(rows, weight.t() if transposed else weight, bias)
    return output[: states.shape[:-1].numel()].view(*states.shape[:-1], output.shape[1])


class _Affine(torch.autograd.Function):
    """`_affine` with its gradients."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool) -> Tensor:
        rows = _filled_up(states.flatten(0, -2))
        ctx.save_for_backward(rows, weight)
        ctx.transposed = transposed
        return _of_rows(rows, states, weight, bias, transposed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        of_output = _filled_up(gradient.flatten(0, -2))
        for_states, for_weight, for_bias, _ = ctx.needs_input_grad
        of_states = of_weight = None
        if for_states:
            of_rows = _product(of_output, weight if ctx.transposed else weight.t())
            of_states = of_rows[: gradient.shape[:-1].numel()].view(*gradient.shape[:-1], of_rows.shape[1])
        if for_weight:
            if ctx.transposed and of_output.numel() < LARGE:
                of_weight = _product(of_output.t(), rows)
            else:
                of_weight = _product(rows.t(), of_output)
                of_weight = of_weight.t() if ctx.transposed else of_weight
        return of_states, of_weight, of_output.sum(0) if for_bias else None, None


def _filled_up(rows: Tensor) -> Tensor:
    """Return few rows with zeros below, up to a multiple of `ROWS_STEP`."""
    missing = -len(rows) % ROWS_STEP
    return pad(rows, (0, 0, 0, missing)) if missing and len(rows) < MANY_ROWS else rows


def _product(one: Tensor, other: Tensor, added: Tensor | None = None) -> Tensor:
    """Return the product of two matrices, plus a row for each of its rows."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(one, other.t(), added, "none", [], "")
    return result
