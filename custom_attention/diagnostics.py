"""What attention does on one batch, per site and head, without keeping a matrix of weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from custom_attention.attach import attach, attached, detach, is_attached
from custom_attention.errors import VariantError
from custom_attention.modes import quiet
from custom_attention.runtime.call import OWN_SCORE_TERMS, Call, repeat_heads, visible
from custom_attention.runtime.dispatch import ATTRIBUTE, Stack, observed
from custom_attention.variant import Site

BLOCK = 2**22  # scores formed at a time: 16 MiB in float32
CLOSED = 0.1  # a gate below this counts as closed


@dataclass(frozen=True)
class SiteDiagnostics:
    """One attention site on one batch; lists have one number per head, means are over real query rows.

    Attributes:
        site: which attention module.
        num_rows: real query rows: neither padding, nor targets that are not there.
        entropy: mean of H(p_i) / log n_i, where n_i is the number of keys that row i sees; 0 = one key, 1 =
            all alike. Rows with one key are left out; None where no row has more.
        effective_keys: mean of 1 / sum_j p_ij^2.
        max_score: largest score (scale and bias in it) of any row; None without rows.
        sink_mass: mean weight on the tokens asked for.
        total: mean of sum_j p_ij: 1, unless the normaliser is none (a sink, sigmoid). The quantities above
            are of |p_ij| / sum_j |p_ij|.
        gate: None where no variant changes the output; else the factor from the kernel's output to the
            site's, by least squares in each row (of a gate or gain, exactly its value): `mean`, `std` over
            rows (0 = it is a gain), `closed`, the share of rows below 0.1.
        learned: variant parameters, "<variant>.<parameter>": numbers up to one per head as they are;
            ".rms" is the root mean square of what each head, or else the whole parameter, has.
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
        """JSON-able: the site as its name, stack, layer and kind (self, cross)."""
        values = {name: value for name, value in asdict(self).items() if name != "site"}
        kind = "cross" if self.site.is_cross else "self"
        where = {"name": self.site.name, "stack": self.site.stack, "layer": self.site.layer, "kind": kind}
        return where | values


def diagnose(
    model: nn.Module, batch: Mapping[str, Any], *, sink_tokens: Sequence[int] = (0,)
) -> list[SiteDiagnostics]:
    """Run `model` on `batch` in evaluation mode and describe the attention of every site that it reaches.

    The weights are recomputed a block at a time in float32 or wider and dropped; nothing of size
    query_len x key_len stays. Variants may be attached or not. Weights, modes, gradients and the random
    stream of torch are as before when it returns.

    Args:
        model: any transformers model whose attention dispatches.
        batch: keyword arguments of one forward. Padding is known from the masks, and in the decoder of an
            encoder-decoder from `decoder_attention_mask`, or `labels` other than -100.
        sink_tokens: positions among an example's real keys, from its end where negative: (0,) is the first
            token, (0, -1) [CLS] and [SEP].

    Raises:
        VariantError: the model does not dispatch, or has a term of its own inside the softmax.
    """
    stock = not is_attached(model)
    if stock:
        attach(model, [], example=batch)
    try:
        probe = _Probe(model, batch, tuple(sink_tokens))
        with quiet(model), torch.no_grad(), observed(probe):
            model(**batch)
        return [probe.tallies[module].summary() for module, _ in attached(model) if module in probe.tallies]
    finally:
        if stock:
            detach(model)


class _Probe:
    """What `observed` calls: it lets the site run, and looks at its weights besides."""

    def __init__(self, model: nn.Module, batch: Mapping[str, Any], sink_tokens: tuple[int, ...]) -> None:
        self.sink_tokens, self.tallies = sink_tokens, {}
        two_stacks = getattr(model.config, "is_encoder_decoder", False)
        self.targets = _real_targets(batch) if two_stacks else None

    def __call__(self, module, query, key, value, mask, scaling, kwargs) -> torch.Tensor:
        stack: Stack = getattr(module, ATTRIBUTE)
        own = [name for name in OWN_SCORE_TERMS if kwargs.get(name) is not None]
        if own:
            what = f"this model has its own `{own[0]}` inside the softmax; its weights are not known here"
            raise VariantError(stack.site.name, what)
        output, _ = stack(module, query, key, value, mask, scaling, 0.0, kwargs)
        call = Call(stack, module, query, key, value, mask, scaling, 0.0, kwargs)
        with torch.autocast(query.device.type, enabled=False):
            self._look(call, output.transpose(1, 2))
        return output

    def _look(self, call: Call, output: torch.Tensor) -> None:
        """Every block of weights of one call, into the tally of its site."""
        stack = call.stack
        batch, heads, query_len, _ = call.query.shape
        query, key = stack.enter(call)
        key = repeat_heads(key, heads // key.shape[1])
        mask = call.full_mask(key.shape[2])
        seen = _seen(mask, (batch, query_len, key.shape[2]), query.device)
        rows, sinks = self._rows(stack.site, seen), _chosen(seen.any(1), self.sink_tokens)
        changes_output = any(variant.hooks & {"output", "output_gain"} for variant in stack)
        tally = self.tallies.setdefault(call.module, _Tally(stack))
        tally.num_rows += int(rows.sum())
        counts = call.visible_counts().expand(batch, heads, query_len, 1)[..., 0]
        for place in _product(stack.cuts(query, key, BLOCK)):
            part = call.part(place, mask)
            scores, weights = stack.weigh(part, query[place], key[place[:2]])
            examples, of_heads, of_rows = place
            real = rows[examples, of_rows][:, None].expand(scores.shape[:3])
            tally.add(of_heads, real, counts[place], scores, weights, sinks[examples])
            if changes_output:
                plain = torch.matmul(weights.to(part.value.dtype), part.value)
                tally.add_gate(of_heads, real, plain.double(), output[place].double())

    def _rows(self, site: Site, seen: torch.Tensor) -> torch.Tensor:
        """Which queries are real, (batch, query_len): those that see themselves, and are targets."""
        batch, query_len, key_len = seen.shape
        real = seen.new_ones(batch, query_len)
        if not site.is_cross and key_len >= query_len:
            real = seen.diagonal(key_len - query_len, 1, 2)
        targets = self.targets
        if site.stack == "decoder" and targets is not None and targets.shape == real.shape:
            real = real & targets.to(real.device)
        return real


class _Tally:
    """Sums over rows of one site, per head, in float64."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.num_rows = stack, 0
        # Read while the forward runs: the parameters of a sharded model are whole only then.
        self.learned = dict(_learned(stack))
        device = stack.device
        names = ("entropy", "uneven", "effective", "sink", "total", "gate", "gate_squared", "closed")
        heads = stack.site.num_heads
        self.sums = {name: torch.zeros(heads, dtype=torch.float64, device=device) for name in names}
        self.largest = torch.full((heads,), -math.inf, dtype=torch.float64, device=device)

    def add(self, heads: slice, real, counts, scores, weights, sinks) -> None:
        """A block: `real` and `counts` (batch, heads, rows), `scores` and `weights` with keys last."""
        largest = scores.amax(-1).masked_fill(~real, -math.inf).amax((0, 2)).double()
        self.largest[heads] = torch.maximum(self.largest[heads], largest.to(self.largest.device))
        total = weights.sum(-1)
        shares = weights.abs()
        shares = shares / shares.sum(-1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)
        uneven = real & (counts > 1)  # the entropy of a row with one key says nothing
        entropy = torch.special.entr(shares).sum(-1) / counts.clamp(min=2).to(shares.dtype).log()
        self._sum("entropy", heads, uneven, entropy)
        self._sum("uneven", heads, uneven, torch.ones_like(entropy))
        self._sum("effective", heads, real, 1 / shares.square().sum(-1))
        self._sum("sink", heads, real, (shares * sinks[:, None, None]).sum(-1))
        self._sum("total", heads, real, total)

    def add_gate(self, heads: slice, real, plain, output) -> None:
        """A block of outputs before and after the variants' last hooks, (batch, heads, rows, head_dim)."""
        size = plain.square().sum(-1).clamp(min=torch.finfo(torch.float64).tiny)
        factor = (plain * output).sum(-1) / size
        self._sum("gate", heads, real, factor)
        self._sum("gate_squared", heads, real, factor.square())
        self._sum("closed", heads, real, (factor < CLOSED).double())

    def _sum(self, name: str, heads: slice, rows, values) -> None:
        kept = torch.where(rows, values.double(), 0.0).sum((0, 2))
        self.sums[name][heads] += kept.to(self.sums[name].device)

    def summary(self) -> SiteDiagnostics:
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
        if not any(variant.hooks & {"output", "output_gain"} for variant in self.stack):
            return None
        std = [
            math.sqrt(max(0.0, square - first**2))
            for square, first in zip(mean["gate_squared"], mean["gate"])
        ]
        return {"mean": mean["gate"], "std": std, "closed": mean["closed"]}


def _learned(stack: Stack):
    for (name, _), variant in zip(stack.recipe, stack):
        for parameter_name, parameter in variant.named_parameters():
            values, full_name = parameter.detach().double(), f"{name}.{parameter_name}"
            if values.numel() <= stack.site.num_heads:
                yield full_name, values.flatten().tolist()
            elif values.shape[0] == stack.site.num_heads:
                yield f"{full_name}.rms", values.flatten(1).square().mean(1).sqrt().tolist()
            else:
                yield f"{full_name}.rms", [values.square().mean().sqrt().item()]


def _seen(mask: torch.Tensor | None, shape: tuple[int, int, int], device) -> torch.Tensor:
    """Which query sees which key, (batch, query_len, key_len), a view; the first head speaks for all."""
    if mask is None:
        return torch.ones((1, 1, 1), dtype=torch.bool, device=device).expand(shape)
    return visible(mask)[:, 0].expand(shape)


def _chosen(real: torch.Tensor, positions: tuple[int, ...]) -> torch.Tensor:
    """Mark the keys at `positions` among the real ones, (batch, key_len) -> float of the same shape."""
    rank = real.long().cumsum(1) - 1
    count = real.sum(1, keepdim=True)
    found = torch.zeros_like(real)
    for position in positions:
        found |= rank == (position if position >= 0 else count + position)
    return (found & real).float()


def _real_targets(batch: Mapping[str, Any]) -> torch.Tensor | None:
    """Which positions of the decoder are no padding, (batch, len); None where the batch does not say."""
    mask, labels = batch.get("decoder_attention_mask"), batch.get("labels")
    if mask is not None:
        return mask.bool()
    return None if labels is None or labels.dim() != 2 else labels != -100


def _product(cuts: tuple[list[slice], ...]) -> list[tuple[slice, slice, slice]]:
    examples, heads, rows = cuts
    return [(e, h, r) for e in examples for h in heads for r in rows]
