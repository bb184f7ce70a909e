"""Statistics of attention on one batch, per site and head, without a stored matrix of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from custom_attention.observation import observed_forward
from custom_attention.runtime.blockwise import block_places
from custom_attention.runtime.call import Call
from custom_attention.runtime.dispatch import Stack
from custom_attention.runtime.tokens import repeat_heads, visible
from custom_attention.site import Site

BLOCK = 2**22  # scores formed at a time: 16 MiB in float32
CLOSED = 0.1  # a gate below this counts as closed


@dataclass(frozen=True)
class SiteDiagnostics:
    """One attention site on one batch; lists have one number per head, means are over real query rows.

    Attributes:
        site: which attention module.
        num_rows: real query rows, without padding and without padding of the targets.
        entropy: mean of H(p_i) / log n_i, where n_i is the number of keys that row i sees; 0: all weight on
            one key, 1: all keys have the same weight. Rows with one key are left out; None if there are no
            others.
        effective_keys: mean of 1 / sum_j p_ij^2.
        max_score: largest score (with scale and bias) of any row; None without rows.
        sink_mass: mean weight on the sink tokens.
        total: mean of sum_j p_ij: 1, unless the weights are not normalised (a sink, sigmoid). The quantities
            above are computed from |p_ij| / sum_j |p_ij|.
        gate: None if no variant changes the output; else the factor from the kernel's output to the site's,
            by least squares in each row (of a gate or gain, exactly its value): `mean`, `std` over rows
            (0 for a gain), and `closed`, the share of rows below 0.1.
        learned: variant parameters, "<variant>.<parameter>": up to one number per head as they are; ".rms"
            is the root mean square per head, or of the whole parameter if its first axis is not the heads.
    """

    site: Site
    num_rows: int
    entropy: list[float | None]
    effective_keys: list[float]
    max_score: list[float | None]
    sink_mass: list[float]
    total: list[float]
    gate: dict[str, list[float]] | None
    learned: dict[str, list[float]]

    def to_dict(self) -> dict[str, Any]:
        """Return values for JSON, with the site as its name, stack, layer and kind ("self", "cross",
        "merged")."""
        values = {name: value for name, value in asdict(self).items() if name != "site"}
        site = self.site
        where = {"name": site.name, "stack": site.stack, "layer": site.layer, "kind": site.kind}
        return where | values


def diagnose(
    model: PreTrainedModel, batch: Mapping[str, Any], *, sink_tokens: Sequence[int] = (0,)
) -> list[SiteDiagnostics]:
    """Run `model` on `batch` in evaluation mode and return statistics of every site that it reaches.

    The weights are computed again one block at a time, in float32 or wider; no tensor of size
    query_len x key_len is kept. Variants may be attached or not. Model weights, modes, gradients and torch's
    random state are as before when it returns.

    Args:
        model: any transformers model whose attention dispatches.
        batch: keyword arguments of one forward. Padding follows from the masks, and in the decoder of an
            encoder-decoder from `decoder_attention_mask`, or from `labels` of -100.
        sink_tokens: positions among an example's real keys, negative ones from its end: (0,) is the first
            token, (0, -1) are [CLS] and [SEP].

    Raises:
        VariantError: the model does not dispatch, its softmax has a term of its own, or a variant replaces
            the kernel.
    """
    probe = _Probe(model, batch, tuple(sink_tokens))
    with observed_forward(model, batch, probe.add_call) as reached:
        return [probe.tallies[module].summary() for module, _ in reached]


class _Probe:
    """Statistics of the attention calls of one forward, by attention module."""

    def __init__(
        self, model: PreTrainedModel, batch: Mapping[str, Any], sink_tokens: tuple[int, ...]
    ) -> None:
        self.sink_tokens = sink_tokens
        self.tallies: dict[nn.Module, _Tally] = {}
        two_stacks = getattr(model.config, "is_encoder_decoder", False)
        self.targets = _real_targets(batch) if two_stacks else None

    def add_call(self, stack: Stack, call: Call, output: Tensor) -> None:
        """Add every block of weights of one call to the tally of its site."""
        output = output.transpose(1, 2)
        batch, heads, query_len, _ = call.query.shape
        query, key, value = stack.enter(call)
        key, value = (repeat_heads(states, heads // states.shape[1]) for states in (key, value))
        mask = call.full_mask(key.shape[2])
        seen = _seen(mask, (batch, query_len, key.shape[2]), query.device)
        rows, sinks = self._rows(stack.site, seen), _chosen(seen.any(1), self.sink_tokens)
        changes_output = bool(stack.having("output", "output_gain"))
        tally = self.tallies.setdefault(call.module, _Tally(stack))
        tally.num_rows += int(rows.sum())
        counts = call.visible_counts().expand(batch, heads, query_len, 1)[..., 0]
        for place in block_places(stack.cuts(query, key, BLOCK)):
            part = call.part(place, mask)
            scores, weights = stack.weigh(part, query[place], key[place[:2]])
            examples, of_heads, of_rows = place
            real = rows[examples, of_rows][:, None].expand(scores.shape[:3])
            tally.add(of_heads, real, counts[place], scores, weights, sinks[examples])
            if changes_output:
                of_block = value[place[:2]]
                plain = torch.matmul(weights.to(of_block.dtype), of_block)
                tally.add_gate(of_heads, real, plain.double(), output[place].double())

    def _rows(self, site: Site, seen: Tensor) -> Tensor:
        """Return which queries are real, (batch, query_len): those that see themselves, and are targets."""
        batch, query_len, key_len = seen.shape
        real = seen.new_ones(batch, query_len)
        if not site.is_cross and key_len >= query_len:
            own_keys = query_len if site.kind == "merged" else key_len  # without a cache
            real = seen.diagonal(own_keys - query_len, 1, 2)
        targets = self.targets
        if site.stack == "decoder" and targets is not None and targets.shape == real.shape:
            real = real & targets.to(real.device)
        return real


class _Tally:
    """Sums over the rows of one site, per head, in float64."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.num_rows = stack, 0
        # Read now, during the forward: only then are the parameters of a sharded model complete.
        self.learned = dict(_learned(stack))
        device = stack.device
        names = ("entropy", "uneven", "effective", "sink", "total", "gate", "gate_squared", "closed")
        heads = stack.site.num_heads
        self.sums = {name: torch.zeros(heads, dtype=torch.float64, device=device) for name in names}
        self.largest = torch.full((heads,), -math.inf, dtype=torch.float64, device=device)

    def add(
        self, heads: slice, real: Tensor, counts: Tensor, scores: Tensor, weights: Tensor, sinks: Tensor
    ) -> None:
        """Add one block.

        Args:
            real: which rows are real, (batch, heads, rows).
            counts: keys that each row sees, (batch, heads, rows).
            scores, weights: (batch, heads, rows, key_len).
            sinks: 1 for each sink token, else 0, (batch, key_len).
        """
        largest = scores.amax(-1).masked_fill(~real, -math.inf).amax((0, 2)).double()
        self.largest[heads] = torch.maximum(self.largest[heads], largest.to(self.largest.device))
        total = weights.sum(-1)
        shares = weights.abs()
        shares = shares / shares.sum(-1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)
        uneven = real & (counts > 1)  # with one key the entropy is always 0
        entropy = torch.special.entr(shares).sum(-1) / counts.clamp(min=2).to(shares.dtype).log()
        self._sum("entropy", heads, uneven, entropy)
        self._sum("uneven", heads, uneven, torch.ones_like(entropy))
        self._sum("effective", heads, real, 1 / shares.square().sum(-1))
        self._sum("sink", heads, real, (shares * sinks[:, None, None]).sum(-1))
        self._sum("total", heads, real, total)

    def add_gate(self, heads: slice, real: Tensor, plain: Tensor, output: Tensor) -> None:
        """Add one block of outputs, before and after the output hooks, (batch, heads, rows, head_dim)."""
        size = plain.square().sum(-1).clamp(min=torch.finfo(torch.float64).tiny)
        factor = (plain * output).sum(-1) / size
        self._sum("gate", heads, real, factor)
        self._sum("gate_squared", heads, real, factor.square())
        self._sum("closed", heads, real, (factor < CLOSED).double())

    def _sum(self, name: str, heads: slice, rows: Tensor, values: Tensor) -> None:
        kept = torch.where(rows, values.double(), 0.0).sum((0, 2))
        self.sums[name][heads] += kept.to(self.sums[name].device)

    def summary(self) -> SiteDiagnostics:
        """Return the statistics of all rows so far."""
        mean = {name: (sums / max(1, self.num_rows)).tolist() for name, sums in self.sums.items()}
        pairs = zip(self.sums["entropy"].tolist(), self.sums["uneven"].tolist())
        return SiteDiagnostics(
            site=self.stack.site,
            num_rows=self.num_rows,
            entropy=[total / count if count else None for total, count in pairs],
            effective_keys=mean["effective"],
            max_score=[value if math.isfinite(value) else None for value in self.largest.tolist()],
            sink_mass=mean["sink"],
            total=mean["total"],
            gate=self._gate(mean),
            learned=self.learned,
        )

    def _gate(self, mean: Mapping[str, list[float]]) -> dict[str, list[float]] | None:
        if not self.stack.having("output", "output_gain"):
            return None
        std = [
            math.sqrt(max(0.0, square - first**2))
            for square, first in zip(mean["gate_squared"], mean["gate"])
        ]
        return {"mean": mean["gate"], "std": std, "closed": mean["closed"]}


def _learned(stack: Stack) -> Iterator[tuple[str, list[float]]]:
    for (name, _), variant in zip(stack.recipe, stack.variants):
        for parameter_name, parameter in variant.named_parameters():
            values, full_name = parameter.detach().double(), f"{name}.{parameter_name}"
            if values.numel() <= stack.site.num_heads:
                yield full_name, values.flatten().tolist()
            elif values.shape[0] == stack.site.num_heads:
                yield f"{full_name}.rms", values.flatten(1).square().mean(1).sqrt().tolist()
            else:
                yield f"{full_name}.rms", [values.square().mean().sqrt().item()]


def _seen(mask: Tensor | None, shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """Return which query sees which key in the first head, a view (batch, query_len, key_len)."""
    if mask is None:
        return torch.ones((1, 1, 1), dtype=torch.bool, device=device).expand(shape)
    return visible(mask)[:, 0].expand(shape)


def _chosen(real: Tensor, positions: tuple[int, ...]) -> Tensor:
    """Return 1 for the keys at `positions` among the real ones, else 0, (batch, key_len)."""
    rank = real.long().cumsum(1) - 1
    count = real.sum(1, keepdim=True)
    found = torch.zeros_like(real)
    for position in positions:
        found |= rank == (position if position >= 0 else count + position)
    return (found & real).float()


def _real_targets(batch: Mapping[str, Any]) -> Tensor | None:
    """Return which positions of the decoder are no padding, (batch, len); None if that is not known."""
    mask, labels = batch.get("decoder_attention_mask"), batch.get("labels")
    if mask is not None:
        return mask.bool()
    return None if labels is None or labels.dim() != 2 else labels != -100
