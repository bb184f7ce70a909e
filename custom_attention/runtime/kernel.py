"""What an attention kernel is, and what a call of it reads from the `Stack` of its site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from custom_attention.runtime.forward import ForwardState
from custom_attention.site import Site

# Arguments of models whose softmax has more terms than query @ key, bias and mask.
OWN_SCORE_TERMS = ("softcap", "s_aux", "sinks")

# Output (batch, query_len, heads, head_dim) and weights, None where the kernel returns none.
Attended = tuple[Tensor, Tensor | None]
Kernel = Callable[..., Attended]  # an attention function of transformers


class StackOfSite(Protocol):
    """What a call reads from the `Stack` of its site."""

    site: Site
    kernel: Kernel
    kernel_name: str
    own_kernel: bool  # False: another one has taken the place of `kernel_name`
    state: ForwardState
    positions: Mapping[str, int]  # of the arguments of the attention module

    def having(self, *hooks: str) -> Sequence[nn.Module]: ...


def hides_later_keys(module: Any, is_causal: bool | None) -> bool:
    """Return whether a call without a mask hides later keys, as sdpa's argument says, or else its module."""
    return bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
