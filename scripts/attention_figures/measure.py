"""The effect of the factor on the scores: on rows of random scores, and on a trained layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from custom_attention import ScaledSelfAttention

# ---- rows of random scores

NUM_KEYS, NUM_DRAWS = 128, 32  # 32 draws of 128 queries and 128 keys: 4,096 rows
HEAD_DIMS = (4, 8, 16, 32, 64, 128, 256)
FACTORS = ("none", "1/√d", "1/d")


@dataclass(frozen=True)
class Rows:
    """Rows of attention weights for queries and keys of independent standard normal numbers.

    Attributes:
        entropy: mean of H(p) in nats; log 128 = 4.85 where all keys weigh alike.
        jacobian: 10 %, 50 % and 90 % quantile over rows of the Frobenius norm of d softmax / d scores.
        jacobian_mean: mean over rows of the same norm.
        to_query: that mean times factor times sqrt(d): the size of the derivative by the query.
    """

    head_dim: int
    factor: str
    entropy: float
    jacobian: tuple[float, float, float]
    jacobian_mean: float
    to_query: float


def rows(head_dim: int, factor: str) -> Rows:
    """Measure rows for one head_dim and one factor, in float64."""
    generator = torch.Generator().manual_seed(head_dim)
    shape = (NUM_DRAWS, 1, NUM_KEYS, head_dim)
    query, key = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    attention = ScaledSelfAttention(head_dim, projections="none", scale="none")
    attention.constant = {"none": 1.0, "1/√d": head_dim**-0.5, "1/d": 1 / head_dim}[factor]
    weights = attention.weigh(attention.scores(query, key), None).flatten(0, 2)
    norms = jacobian_norm(weights)
    low, middle, high = norms.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=norms.dtype)).tolist()
    mean = norms.mean().item()
    return Rows(
        head_dim=head_dim,
        factor=factor,
        entropy=torch.special.entr(weights).sum(-1).mean().item(),
        jacobian=(low, middle, high),
        jacobian_mean=mean,
        to_query=mean * attention.constant * head_dim**0.5,
    )


def table_row(row: Rows) -> str:
    """Return a line of the table in docs/attention.md."""
    low, middle, high = row.jacobian
    spread = f"{low:.4f} / {middle:.3f} / {high:.3f}"
    numbers = f"{row.entropy:.2f} | {spread} | {row.jacobian_mean:.3f} | {row.to_query:.3f}"
    return f"| {row.head_dim} | {row.factor} | {numbers} |"


def jacobian_norm(weights: torch.Tensor) -> torch.Tensor:
    """Return the Frobenius norm of diag(p) - p p^T for each row of weights, (..., keys) -> (...)."""
    squares, cubes = weights.square().sum(-1), weights.pow(3).sum(-1)
    return (squares - 2 * cubes + squares.square()).clamp(min=0).sqrt()


# ---- a layer that is trained

NUM_NAMES, NUM_VALUES, NUM_PAIRS, WIDTH = 24, 16, 12, 64
BATCH, STEPS, LAST, SEEDS = 32, 300, 30, 3
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
ARMS = ("1/√d", "none, same weights", "none, W_q / √d")


class Lookup(nn.Module):
    """A model that reads tokens with a name and a value, and a question, a name; it answers with the value.

    Attention has to match the names.
    """

    def __init__(self, arm: str) -> None:
        super().__init__()
        scaled = arm == ARMS[0]
        self.attention = ScaledSelfAttention(WIDTH, scale="1/sqrt(d_k)" if scaled else "none")
        self.names, self.values = nn.Embedding(NUM_NAMES, WIDTH), nn.Embedding(NUM_VALUES, WIDTH)
        self.question = nn.Embedding(NUM_NAMES, WIDTH)
        self.answer = nn.Linear(WIDTH, NUM_VALUES)
        if arm == ARMS[2]:
            with torch.no_grad():
                self.attention.query.weight /= WIDTH**0.5
                self.attention.query.bias /= WIDTH**0.5

    def forward(self, names: torch.Tensor, values: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        """Return logits of the values: (batch, pairs), (batch, pairs), (batch,) -> (batch, NUM_VALUES)."""
        pairs = self.names(names) + self.values(values)
        tokens = torch.cat([pairs, self.question(asked)[:, None]], 1)
        return self.answer(self.attention(tokens)[:, -1])


def losses(arm: str, rate: float, seed: int, steps: int = STEPS) -> list[float]:
    """Return the loss of every step of Adam (nats; guessing: 2.77). Arms share weights and data."""
    torch.manual_seed(seed)
    model = Lookup(arm)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(1000 + seed)
    found = []
    for _ in range(steps):
        names = torch.rand(BATCH, NUM_NAMES, generator=generator).argsort(1)[:, :NUM_PAIRS]
        values = torch.randint(NUM_VALUES, names.shape, generator=generator)
        place = torch.randint(NUM_PAIRS, (BATCH, 1), generator=generator)
        answers = model(names, values, names.gather(1, place)[:, 0])
        loss = nn.functional.cross_entropy(answers, values.gather(1, place)[:, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def final_loss(arm: str, rate: float, seed: int) -> float:
    """Return the mean loss of the last 30 steps."""
    return sum(losses(arm, rate, seed)[-LAST:]) / LAST


def training() -> dict[str, dict[float, list[float]]]:
    """Return arm -> learning rate -> final loss of each seed. Takes half a minute."""
    return {
        arm: {rate: [final_loss(arm, rate, seed) for seed in range(SEEDS)] for rate in RATES} for arm in ARMS
    }
