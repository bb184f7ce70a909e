"""e-LOND: the values that the paper's formula gives by hand, and its promise by simulation."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from pipelines.comparison.online import LEVEL, e_lond, e_value, weight


@pytest.mark.parametrize(
    ("p", "e"),
    [
        (math.exp(-1), (1 - math.exp(-1) - math.exp(-1)) * math.e),  # ln p = -1: 0.71828...
        (0.01, (1 - 0.01 - 0.01 * 4.605170185988091) / (0.01 * 21.207592441913)),  # 4.4510
        (0.0001, 117.77),
        (1.0, 0.5),
        (0.0, math.inf),
    ],
)
def test_the_calibrator_gives_what_its_formula_gives_by_hand(p, e):
    assert e_value(p) == pytest.approx(e, rel=1e-4)


def test_the_mean_of_an_e_value_without_an_effect_is_1():
    # By substitution: the integral of (1 - p + p ln p) / (p ln(p)^2) over p, on a grid in ln p.
    log = np.linspace(-4000, -1e-6, 4_000_001)
    values = (1 - np.exp(log) + np.exp(log) * log) / log**2
    assert np.trapezoid(values, log) == pytest.approx(1.0, abs=1e-3)


def test_the_calibrator_falls_and_has_no_step_near_1():
    values = [e_value(p) for p in np.linspace(1e-6, 1, 5000)]
    assert all(before >= after for before, after in pairwise(values))
    assert e_value(1 - 1.01e-4) == pytest.approx(0.5, abs=1e-4)


def test_the_shares_of_the_level_add_up_to_1():
    assert sum(weight(place) for place in range(1, 100_000)) == pytest.approx(1, abs=1e-4)
    assert [weight(place) for place in (1, 2, 3)] == [1 / 2, 1 / 6, 1 / 12]


def test_each_look_needs_what_the_looks_before_leave():
    found = e_lond([1e-5, 0.2, 1e-4, 1e-4])
    # needed: 1 / (0.05 / 2); 1 / (0.05 / 6 * 2); 1 / (0.05 / 12 * 2); 1 / (0.05 / 20 * 2)
    assert [one.needed for one in found] == pytest.approx([40, 60, 120, 200])
    assert [one.claimed for one in found] == [True, False, False, False]
    assert e_lond([1e-5, 1e-6])[1].claimed
    assert e_lond([]) == []


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_of_all_claims_the_expected_share_of_false_ones_is_at_most_the_level(shared):
    """Thirty looks, a third of them at real effects, which share a part of their noise or none."""
    chance = np.random.default_rng(5)
    effects = np.tile([0.0, 0.0, 5.0], 10)
    shares = []
    for _ in range(400):
        noise = math.sqrt(shared) * chance.normal() + math.sqrt(1 - shared) * chance.normal(size=30)
        p_values = [math.erfc(abs(z) / math.sqrt(2)) for z in effects + noise]
        claims = np.array([one.claimed for one in e_lond(p_values)])
        shares.append((claims & (effects == 0)).sum() / max(1, claims.sum()))
    assert np.mean(shares) <= LEVEL
