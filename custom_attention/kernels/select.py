"""Choose a kernel that takes the place of sdpa: FlexAttention, or flash attention over tokens."""

from __future__ import annotations

from collections.abc import Callable

from custom_attention.attach import AnyModule, attached
from custom_attention.errors import VariantError
from custom_attention.kernels import flash, flex
from custom_attention.runtime.dispatch import Stack

KERNELS: dict[str, Callable[[Stack], None]] = {"flex": flex.put_on, "flash": flash.put_on}


def use_kernel(model: AnyModule, name: str) -> AnyModule:
    """Let an attached model compute all its attention by another kernel, stock sites too, and return it.

    A kernel that cannot compute what a forward asks for stops it; no other one takes its place. Models are
    saved as without it: it is the same function, up to rounding.

    Args:
        name: "flex" or "flash".

    Raises:
        VariantError: the name is unknown, or the kernel cannot compute a site or a variant.
    """
    if name not in KERNELS:
        raise VariantError("kernel", "not accepted", name, f"one of {', '.join(KERNELS)}")
    stacks = [stack for _, stack in attached(model)]
    if not stacks:
        what = "nothing is attached, so the model calls its own kernel"
        raise VariantError(f"kernel {name}", what, accepted="custom_attention.attach(model, []) is enough")
    other = [stack for stack in stacks if stack.kernel_name != "sdpa"]
    if other:
        fix = 'load the model with attn_implementation="sdpa", whose place it takes'
        raise VariantError(f"kernel {name}", "the model has another kernel", other[0].kernel_name, fix)
    for stack in stacks:
        KERNELS[name](stack)
    return model
