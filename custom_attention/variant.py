"""The contract of a variant: one idea about attention, one class, one instance per attention site."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from custom_attention.errors import VariantError
from custom_attention.option_types import Range
from custom_attention.runtime.call import Call
from custom_attention.site import Site

__all__ = ["KERNEL_HOOKS", "SCORE_HOOKS", "Call", "Range", "Site", "Variant", "VariantError"]

KERNEL_HOOKS = (
    "scale",
    "query_gain",
    "output_gain",
    "query",
    "key",
    "value",
    "mask",
    "position_bias",
    "offset_bias",
    "dropout_rate",
    "attend",
    "output",
    "projected",
    "position_embedding",
    "penalty",
    "transfer",
)
SCORE_HOOKS = ("scores", "normalize", "dropout")  # these need the scores, so they take the explicit path
HOOKS = KERNEL_HOOKS + SCORE_HOOKS
# Constant factors, which stock weights can hold, and what acts in training only.
FOLDABLE_HOOKS = ("scale", "query_gain", "output_gain", "dropout_rate", "penalty", "transfer")


class Variant(nn.Module):
    """Base class of all variants; a class overrides at least one hook.

    Write one class in one file of `variants/`. Every new `nn.Parameter` is zero where the function is stock
    attention (log-temperature 0, 2*sigmoid(0), tanh(0)): the swap is then exact at the start, and weight
    decay pulls toward stock attention.

    Only overridden hooks are called, in this order; a list of variants runs in list order within each hook:
        mask, query_gain, query, key, value, dropout_rate, scale, scores, position_bias, offset_bias,
        normalize, dropout, @ value (or attend), transfer, output_gain, output, W_o, projected.
    `call` is the running attention call: `call.query`, `call.key`, `call.value` as the model made them,
    `call.hidden`, `call.key_hidden`, `call.visible_counts()`, `call.own_value()`, `call.along_keys(states)`,
    `call.publish(name, states)`, `call.earlier(name)`, `call.progress`, `call.attend(query, key, value)`,
    `call.attend_by(weights)`.
    Never store it.
    """

    # Whether attention at the initial parameters is stock attention: True, False, or by options, each of
    # which must allow it, such as {"start": {"zero": True, "paper": False}}. A literal, because `attnlab ls`
    # reads it from the source without importing the file.
    starts_as_stock: ClassVar[bool | Mapping[str, Mapping[str, bool]]] = True
    # Whether `scores` or `normalize` combines heads. If not, long inputs are computed some heads at a time.
    mixes_heads: ClassVar[bool] = False
    # Whether the class itself is stock attention on purpose. Any other class without a hook is refused.
    is_control: ClassVar[bool] = False

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site
        self.hooks = overridden_hooks(type(self))

    # -- hooks on the model's own kernel ----------------------------------------------------------------

    def scale(self, scale: float, call: Call) -> float:
        """Return the factor on query @ key, given the factor so far."""
        return scale

    def query_gain(self) -> Tensor:
        """Return a constant multiplier of the queries, (heads, 1) or (heads, head_dim). Folds into W_q."""
        raise NotImplementedError

    def output_gain(self) -> Tensor:
        """Return a constant multiplier of the output, (heads, 1) or (heads, head_dim). Folds into W_o."""
        raise NotImplementedError

    def query(self, query: Tensor, call: Call) -> Tensor:
        """Return the queries, (batch, heads, query_len, head_dim)."""
        return query

    def key(self, key: Tensor, call: Call) -> Tensor:
        """Return the keys, (batch, key_heads, key_len, head_dim).

        With a cache, it is computed again for all cached keys in every decoding step.
        """
        return key

    def value(self, value: Tensor, call: Call) -> Tensor:
        """Return the values, (batch, key_heads, key_len, head_dim). With a cache, as `key`."""
        return value

    def mask(self, visible: Tensor, call: Call) -> Tensor:
        """Return which keys are visible: what it leaves out of `visible` is hidden too, nothing is uncovered.

        `call.visible_counts()` counts what is left.

        Args:
            visible: booleans that broadcast to (batch, heads, query_len, key_len), as the result.
        """
        return visible

    def position_bias(self, bias: Tensor | None, call: Call) -> Tensor | None:
        """Return what is added to the scores, (1 | batch, heads, query_len, key_len), or None.

        Args:
            bias: the model's own position bias, or None.
        """
        return bias

    def offset_bias(self, offsets: Tensor, call: Call) -> Tensor:
        """Return what is added to the scores by offset alone, (heads, n). In training on a CPU the whole
        (heads, query_len, key_len) is never formed.

        Args:
            offsets: all values of key position minus query position, whole numbers (n,).
        """
        raise NotImplementedError

    def dropout_rate(self, rate: float, call: Call) -> float:
        """Return the rate of the weights' dropout, given the model's: 0.0 in evaluation."""
        return rate

    def attend(self, call: Call) -> Tensor:
        """Return the output of the heads, (batch, heads, query_len, head_dim), in place of the kernel; one
        variant per site.

        It reads `call.states` (query, key and value after their hooks, key heads not repeated), and honours
        `call.visible_keys()`, `call.scale`, `call.position_bias` and `call.dropout`. `call.attend` is the
        kernel that it replaces.
        """
        raise NotImplementedError

    def output(self, output: Tensor, call: Call) -> Tensor:
        """Return the output of the heads, (batch, heads, query_len, head_dim), given the kernel's."""
        return output

    def projected(self, output: Tensor, call: Call) -> Tensor:
        """Return the output after W_o and its bias, (batch, query_len, site.projected_size)."""
        return output

    def position_embedding(self, embedding: Tensor) -> Tensor:
        """Return what the model's table of positions gives its embeddings, (1 | batch, len, hidden size).

        Only where `site.position_table` is known. The sites of a stack share the table, so it is called for
        each of them in turn, and all of them must have the variant.
        """
        return embedding

    # -- hooks of training ------------------------------------------------------------------------------

    def penalty(self) -> Tensor:
        """Return a scalar that is added to the mean loss of every step, a function of the parameters."""
        raise NotImplementedError

    def transfer(self, output: Tensor, call: Call) -> Tensor | None:
        """Return a loss of each query, (batch, query_len), such as its distance from stock attention; None:
        none at this time.

        It is called in training only. Its mean over the queries of an example that are no padding, and then
        over the examples of a step, is added to the mean loss of the step.

        Args:
            output: of the kernel or of `attend`, (batch, heads, query_len, head_dim).
        """
        raise NotImplementedError

    # -- hooks on the explicit path ---------------------------------------------------------------------

    def scores(self, scores: Tensor, call: Call) -> Tensor:
        """Return the scores before bias and mask, (batch, heads, query_len, key_len), in float32.

        Long inputs arrive one block at a time: some examples, heads (unless `mixes_heads`) and query rows,
        never a part of a row. So one row of scores must not depend on another. `call`, and parameters whose
        first axis is the heads, are cut in the same way.

        Args:
            scores: query @ key * scale in float32.
        """
        return scores

    def normalize(self, scores: Tensor, call: Call) -> Tensor:
        """Return the weights instead of softmax; one variant per site. One block at a time, as `scores`.

        Args:
            scores: with bias and mask; hidden keys have the lowest finite float.
        """
        raise NotImplementedError

    def dropout(self, weights: Tensor, call: Call) -> Tensor:
        """Return the weights after dropout, instead of the model's; it is called in evaluation too.

        One block at a time, as `scores`. `call.dropout` is the model's rate, `self.training` the mode.
        """
        return weights

    # -- what other parts of the package read -----------------------------------------------------------

    def weight_factor(self) -> float:
        """Return the factor on W_q that keeps the function under a new scale.

        `attach` multiplies W_q by it and `detach` divides by it.
        """
        return 1.0

    def on_heads(self, heads: slice) -> Variant:
        """Return this variant for some heads: parameters whose first axis is the heads are cut."""
        if heads == slice(None):
            return self
        part = copy.copy(self)
        for name, parameter in self._parameters.items():
            if parameter is not None and parameter.shape[:1] == (self.site.num_heads,):
                # In `__dict__`, which is read first, because nn.Module refuses a plain tensor as a parameter.
                part.__dict__[name] = parameter[heads]
        return part

    def shared(self) -> tuple[str, ...]:
        """Return the names of parameters that all sites have in common."""
        return ()

    @property
    def neutral_at_start(self) -> bool:
        """`starts_as_stock`, resolved for the options of this instance."""
        declared = type(self).starts_as_stock
        if isinstance(declared, bool):
            return declared
        return all(by_value[getattr(self, option)] for option, by_value in declared.items())

    @property
    def foldable(self) -> bool:
        """Whether stock weights can hold the function: outside training it only has constant factors."""
        return self.hooks <= set(FOLDABLE_HOOKS)


def overridden_hooks(cls: type[Variant]) -> frozenset[str]:
    """Return the hooks that attention calls for this class."""
    return frozenset(hook for hook in HOOKS if getattr(cls, hook) is not getattr(Variant, hook))
