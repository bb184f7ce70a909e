"""More variants beside their papers: those that change the scores by their neighbours or use a second map."""

from __future__ import annotations

import math

import pytest
import torch

from tests.custom_attention.test_published import FAMILIES, check, run


@FAMILIES
@pytest.mark.parametrize("form", ["learned", "fixed"])
def test_sinkhorn_attention(family, form):
    def expected(one):
        """Rows, columns, rows of exp(s) are divided by their sums; a query has the rows that it may see."""
        heads, length, _ = one.query.shape
        positive = one.scores().exp()
        output = torch.zeros_like(one.value)
        amount = torch.ones(heads) if form == "fixed" else one.variant.amount.flatten().tanh()
        for i in range(length):
            rows = range(i + 1) if one.causal else range(length)
            matrix = torch.zeros(heads, length, length, dtype=torch.float64)
            for k in rows:
                seen = [j for j in range(length) if one.sees(k, j)]
                matrix[:, k, seen] = positive[:, k, seen] / positive[:, k, seen].sum(-1, keepdim=True)
            columns = matrix.sum(1)
            mine = [j for j in range(length) if one.sees(i, j)]
            weights = positive[:, i, mine] / columns[:, mine] ** amount[:, None]
            output[:, i] = ((weights / weights.sum(-1, keepdim=True))[:, None] @ one.value[:, mine])[:, 0]
        return output

    check(run(family, {"sinkhorn": {"form": form}}), expected)


def test_sinkhorn_of_an_encoder_gives_every_key_more_equal_shares():
    """Near the limit of the iteration, where all row and column sums are 1."""
    for one in run("bert", {"sinkhorn": {"form": "fixed"}}):
        weights = one.scores().softmax(-1)
        divided = weights / weights.sum(1, keepdim=True)
        normed = divided / divided.sum(-1, keepdim=True)
        assert (normed.sum(1) - 1).abs().max() < (weights.sum(1) - 1).abs().max()


@FAMILIES
@pytest.mark.parametrize(("progress", "amount"), [(0.0, 0.2), (0.25, 0.4), (0.5, 0.6), (1.0, 0.6)])
def test_dex_subtracts_a_map_whose_factor_follows_training(family, progress, amount):
    def expected(one):
        plain = one.attend(one.scores(), one.value)
        mapped = torch.einsum("hld,hde->hle", plain, one.variant.map)
        return plain - amount * mapped

    options = {"first": 0.2, "last": 0.6, "turn": 0.5}
    check(run(family, {"dex": options}, progress=progress), expected)


@FAMILIES
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (2, 3), (3, 5), (6, 11)])
def test_multi_token_attention(family, queries, keys):
    def expected(one):
        scores, length = one.scores(), one.query.shape[1]
        mixed = scores.clone()
        for i in range(length):
            for j in range(length):
                for back in range(queries):
                    for aside in range(-(keys // 2), keys // 2 + 1):
                        k, near = i - back, j + aside
                        if k >= 0 and 0 <= near < length and one.sees(k, near):
                            weight = one.variant.weight[:, 0, queries - 1 - back, keys // 2 + aside]
                            mixed[:, i, j] += weight * scores[:, k, near]
        return one.attend(mixed, one.value)

    check(run(family, {"multi_token": {"queries": queries, "keys": keys}}), expected)


@FAMILIES
def test_token_temperature(family):
    """Selective self-attention: q_i by a temperature of token i, v_j by one of token j."""

    def expected(one):
        of_query = 1 + torch.tanh(one.hidden @ one.variant.of_query.T).T
        of_value = 1 + torch.tanh(one.hidden @ one.variant.of_value.T).T
        scores = torch.stack(
            [one.scores()[:, i] * of_query[:, i, None] for i in range(one.query.shape[1])], 1
        )
        return one.attend(scores, of_value[..., None] * one.value)

    check(run(family, "token_temperature"), expected)


@FAMILIES
def test_projected_differential_attention(family):
    def expected(one):
        heads, length, size = one.query.shape
        query, key = (
            (one.hidden @ layer.weight.T).reshape(length, heads, size).transpose(0, 1)
            for layer in (one.variant.of_query, one.variant.of_key)
        )
        second = one.attend(query @ key.mT / math.sqrt(size), one.value)
        return one.attend(one.scores(), one.value) - one.variant.mix.tanh() * second

    check(run(family, "projected_differential"), expected)
