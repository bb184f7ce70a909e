"""The variants beside their papers, written out: loops in float64 on one site of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from custom_attention import Variant, attach, attached, set_progress, variant_parameters
from custom_attention.runtime.dispatch import observed
from tests.custom_attention.models import nudge, padded, tiny

CAUSAL = {"bert": False, "gpt2": True}  # one encoder; one decoder, padded on the left
FAMILIES = pytest.mark.parametrize("family", CAUSAL)


@dataclass
class One:
    """What one site got and gave for one example, without padding, in float64: (heads, len, head_dim)."""

    query: Tensor
    key: Tensor
    value: Tensor
    hidden: Tensor
    output: Tensor
    variant: Variant
    causal: bool

    def sees(self, row: int, column: int) -> bool:
        return column <= row or not self.causal

    def scores(self) -> Tensor:
        return self.query @ self.key.mT / math.sqrt(self.query.shape[-1])

    def attend(self, scores: Tensor, value: Tensor) -> Tensor:
        """Softmax attention over the keys that each row sees, row by row."""
        rows = []
        for row in range(scores.shape[1]):
            columns = [j for j in range(scores.shape[2]) if self.sees(row, j)]
            weights = scores[:, row, columns].exp()
            rows.append((weights / weights.sum(-1, keepdim=True))[:, None] @ value[:, columns])
        return torch.cat(rows, 1)


def run(family: str, spec, size=0.4, training=False, progress=0.0) -> list[One]:
    """Run a model whose variants were moved, and return the first site's part of each example."""
    batch = padded(family)
    model = attach(tiny(family), spec).train(training)
    nudge(variant_parameters(model).values(), size=size)
    set_progress(model, progress)
    (module, stack), *_ = attached(model)
    states, around = {}, {}

    def keep(site, query, key, value, *rest):
        states.setdefault(site, (query, key, value))

    reads = module.query if family == "bert" else module.c_attn
    reads.register_forward_pre_hook(lambda _, args: around.setdefault("hidden", args[0]))
    projection = model.get_submodule(stack.site.projection)
    projection.register_forward_pre_hook(lambda _, args: around.setdefault("output", args[0]))
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    with torch.no_grad(), observed(keep):
        model(**batch.inputs)
    heads = stack.site.num_heads
    output = around["output"].unflatten(-1, (heads, -1)).transpose(1, 2)
    found = []
    for row, length in enumerate(batch.lengths):
        cut = slice(-length, None) if batch.left else slice(0, length)
        of_heads = [s[row, :, cut].double() for s in (*states[module], output)]
        hidden = around["hidden"][row, cut].double()
        variant = stack.variants[0].double()
        found.append(One(*of_heads[:3], hidden, of_heads[3], variant, CAUSAL[family]))
    return found


def check(found: list[One], expected) -> None:
    for one in found:
        torch.testing.assert_close(one.output, expected(one), rtol=1e-4, atol=1e-5)


@FAMILIES
@pytest.mark.parametrize("per", ["head", "channel"])
@pytest.mark.parametrize("on", ["output", "query", "key", "value"])
@pytest.mark.parametrize(("start", "most"), [("zero", 2), ("paper", 1)])
def test_gated_attention(family, per, on, start, most):
    def expected(one):
        gates = most / (1 + torch.exp(-torch.einsum("hcx,lx->hlc", one.variant.weight, one.hidden)))
        if on == "output":
            return gates * one.attend(one.scores(), one.value)
        setattr(one, on, gates * getattr(one, on))
        return one.attend(one.scores(), one.value)

    check(run(family, {"hidden_gate": {"per": per, "on": on, "start": start}}), expected)


@pytest.mark.parametrize("per", ["head", "channel"])
def test_gated_attention_after_the_projection(per):
    model = attach(tiny("gpt2"), {"hidden_gate": {"on": "projected", "per": per}})
    nudge(variant_parameters(model).values())
    seen = {}
    block = model.transformer.h[0]
    block.attn.c_attn.register_forward_pre_hook(lambda _, args: seen.setdefault("hidden", args[0]))
    block.attn.c_proj.register_forward_pre_hook(lambda _, args: seen.setdefault("heads", args[0]))
    block.attn.register_forward_hook(lambda *args: seen.update(gated=args[2][0]))
    model(**padded("gpt2").inputs)
    [weight] = attached(model)[0][1].variants[0].weight.detach()  # (1 | channels, hidden size)
    gates = 2 / (1 + torch.exp(-seen["hidden"] @ weight.T))
    plain = seen["heads"] @ block.attn.c_proj.weight + block.attn.c_proj.bias
    torch.testing.assert_close(seen["gated"], gates * plain, rtol=1e-4, atol=1e-5)


@FAMILIES
@pytest.mark.parametrize("form", ["learned", "fixed"])
def test_forgetting_attention(family, form):
    def expected(one):
        weight, offset = one.variant.weight, one.variant.offset
        kept = 1 / (1 + torch.exp(-(one.hidden @ weight.T + offset)))  # (len, heads)
        scores = one.scores().clone()
        for i in range(scores.shape[1]):
            for j in range(scores.shape[2]):
                faded = kept[min(i, j) + 1 : max(i, j) + 1].log().sum(0)
                amount = 1.0 if form == "fixed" else one.variant.amount.flatten().tanh()
                scores[:, i, j] += amount * faded
        return one.attend(scores, one.value)

    check(run(family, {"forgetting": {"form": form}}), expected)


@FAMILIES
@pytest.mark.parametrize("form", ["learned", "fixed"])
def test_selective_attention(family, form):
    def expected(one):
        scores = one.scores()
        selects, length = scores[0], scores.shape[1]
        unneeded = torch.zeros(length, length, dtype=torch.float64)
        for i in range(length):
            for k in range(i):
                for j in range(1, k):  # no token selects itself or the first
                    unneeded[i, j] += max(selects[k, j].item(), 0.0)
        amount = 1.0 if form == "fixed" else one.variant.amount.tanh()
        return one.attend(scores - amount * unneeded, one.value)

    check(run(family, {"selective": {"form": form}}), expected)


@FAMILIES
def test_softmax_one(family):
    def expected(one):
        rows = []
        for i in range(one.query.shape[1]):
            columns = [j for j in range(one.key.shape[1]) if one.sees(i, j)]
            weights = one.scores()[:, i, columns].exp()
            rows.append((weights / (1 + weights.sum(-1, keepdim=True)))[:, None] @ one.value[:, columns])
        return torch.cat(rows, 1)

    check(run(family, "softmax_one"), expected)


@FAMILIES
@pytest.mark.parametrize(("window", "num_global"), [(1, 0), (2, 1), (0, 2)])
def test_a_sliding_window_with_global_tokens(family, window, num_global):
    def expected(one):
        one.sees = lambda i, j: (
            (j <= i or not one.causal) and (abs(i - j) <= window or i < num_global or j < num_global)
        )
        return one.attend(one.scores(), one.value)

    check(run(family, {"sliding_window": {"window": window, "num_global": num_global}}), expected)


@FAMILIES
def test_linear_attention(family):
    def features(states, change):
        mapped = states + torch.einsum("hld,hde->hle", states, change)
        return torch.cat([mapped.softmax(-1), (-mapped).softmax(-1)], -1)

    def expected(one):
        query, key = features(one.query, one.variant.of_query), features(one.key, one.variant.of_key)
        rows = []
        for i in range(query.shape[1]):
            # The state of a recurrence: sums over the keys that the row sees.
            columns = [j for j in range(key.shape[1]) if one.sees(i, j)]
            memory = sum(key[:, j, :, None] * one.value[:, j, None] for j in columns)
            total = sum(key[:, j] for j in columns)
            top = torch.einsum("hf,hfd->hd", query[:, i], memory)
            rows.append(top / (query[:, i] * total).sum(-1, keepdim=True))
        return torch.stack(rows, 1)

    check(run(family, {"linear_attention": {"form": "replaced"}}), expected)


@FAMILIES
def test_t2r(family):
    def expected(one):
        own = one.variant
        query = torch.relu(torch.einsum("hld,hdf->hlf", one.query, own.of_query) + own.query_offset)
        key = torch.relu(torch.einsum("hld,hdf->hlf", one.key, own.of_key) + own.key_offset)
        rows = []
        for i in range(query.shape[1]):
            columns = [j for j in range(key.shape[1]) if one.sees(i, j)]
            weights = torch.stack([(query[:, i] * key[:, j]).sum(-1) for j in columns], -1)
            top = torch.einsum("hj,hjd->hd", weights, one.value[:, columns])
            rows.append(top / weights.sum(-1, keepdim=True))
        return torch.stack(rows, 1)

    check(run(family, {"t2r": {"features": 9}}), expected)


@FAMILIES
def test_ngpt(family):
    def expected(one):
        factor = 1 + one.variant.excess
        query, key = (factor * s / s.norm(dim=-1, keepdim=True) for s in (one.query, one.key))
        return one.attend(query @ key.mT * math.sqrt(one.query.shape[-1]), one.value)

    check(run(family, "ngpt"), expected)


@FAMILIES
def test_head_gates_are_constants_in_evaluation(family):
    def expected(one):
        stretched = 1.2 / (1 + torch.exp(-(one.variant.openness + 2.5))) - 0.1
        return one.attend(one.scores(), one.value) * stretched.clamp(0, 1)[:, None, None]

    found = run(family, "head_gates", size=-3.0)
    check(found, expected)
    assert (found[0].output != 0).any()
    assert (found[0].variant.openness < -0.1).any()  # a gate that is not wide open


def test_head_gates_are_drawn_in_training_and_some_are_shut():
    torch.manual_seed(1)
    model = attach(tiny("bert"), "head_gates").train()
    variant = attached(model)[0][1].variants[0]
    with torch.no_grad():
        variant.openness.fill_(-2.5)  # as likely open as shut
        drawn = torch.cat([variant.output_gain() for _ in range(2000)])
    assert (drawn == 0).float().mean() == pytest.approx(0.169, abs=0.02)  # P(s <= 0), by the quantile of u
    assert drawn.mean() == pytest.approx(0.5, abs=0.02)
    expected_open = 1 / (1 + math.exp(2 / 3 * math.log(0.1 / 1.1)))
    assert variant.penalty().item() == pytest.approx(0.001 * 3 * expected_open, rel=1e-4)
    assert (drawn > 0).float().mean() == pytest.approx(expected_open, abs=0.02)


@pytest.mark.parametrize(("progress", "rate"), [(0.0, 0.4), (0.1, 0.2), (0.2, 0.0), (0.6, 0.3), (1.0, 0.6)])
def test_drop_head_follows_its_schedule(progress, rate):
    torch.manual_seed(3)
    options = {"start": 0.4, "end": 0.6, "turn": 0.2}
    dropped = []
    for _ in range(12):
        for one in run("bert", {"drop_head": options}, training=True, progress=progress):
            whole = one.attend(one.scores(), one.value)
            for head, output in enumerate(one.output):
                gone = not output.any()
                dropped.append(gone)
                if not gone:
                    torch.testing.assert_close(output, whole[head] / (1 - rate), rtol=1e-4, atol=1e-5)
    assert sum(dropped) / len(dropped) == pytest.approx(rate, abs=0.15)


def test_layer_scale_is_a_factor_on_each_channel_after_the_projection():
    model, stock, inputs = attach(tiny("gpt2"), "layer_scale"), tiny("gpt2"), padded("gpt2").inputs
    nudge(variant_parameters(model).values())
    with torch.no_grad():
        for (_, stack), block in zip(attached(model), stock.transformer.h):
            gain = 1 + stack.variants[0].gain
            block.attn.c_proj.weight.mul_(gain)
            block.attn.c_proj.bias.mul_(gain)
        torch.testing.assert_close(model(**inputs).logits, stock(**inputs).logits, rtol=0, atol=1e-4)
