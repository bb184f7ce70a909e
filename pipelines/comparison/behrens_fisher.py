"""The distribution of a mean whose variance is the sum of two estimates: Behrens' and Fisher's.

`sqrt(w) T1 + sqrt(1 - w) T2`, where T1 and T2 are independent t variables with the degrees of freedom of the
two estimates, and w is the share of the first. Its p is below a level at most as often as the
level says; a t with one mean number of degrees of freedom achieves that near 5 % only (docs/statistics.md).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

NODES, FEW_NODES = 64, 32  # of the quadrature over a scale that reaches 0, and over one that does not
REACH = 9.0  # standard deviations of a scale that are integrated
STEPS = 50  # of Newton's method, which takes about six
SHARES = np.linspace(0, 1, 65) ** 2  # where a curve of critical values is computed


def p_value(ratio: float | np.ndarray, share: float | np.ndarray, dfs: tuple[float, float]) -> np.ndarray:
    """Return the two-sided p of a mean that is `ratio` standard errors from 0.

    Args:
        share: the first estimate over the sum of both.
        dfs: degrees of freedom of the two estimates; 0 for an estimate that does not exist, whose share is 0.
    """
    from scipy.special import ndtr

    scales, weights = _scales(np.asarray(share, np.float64), dfs)
    return 2 * (weights * ndtr(-np.abs(np.asarray(ratio))[..., None] / scales)).sum(axis=-1)


def critical_value(level: float, share: float | np.ndarray, dfs: tuple[float, float]) -> np.ndarray:
    """Return the ratio whose two-sided p is `level`."""
    from scipy.special import ndtr, ndtri

    scales, weights = _scales(np.asarray(share, np.float64), dfs)
    ratio = np.full(scales.shape[:-1], -float(ndtri(level / 2)))
    for _ in range(STEPS):  # of log p against log ratio, which is concave: it comes from one side
        standard = ratio[..., None] / scales
        p = 2 * (weights * ndtr(-standard)).sum(axis=-1)
        slope = 2 * (weights * standard * np.exp(-np.square(standard) / 2)).sum(axis=-1) / np.sqrt(2 * np.pi)
        step = np.log(p / level) * p / slope
        ratio = ratio * np.exp(np.clip(step, -1, 1))
        if np.all(np.abs(step) < 1e-12):
            break
    return ratio


def critical_values(level: float, shares: np.ndarray, dfs: tuple[float, float]) -> np.ndarray:
    """Return `critical_value` at many shares, by interpolation between 65 of them (to 1e-4)."""
    return np.interp(shares, SHARES, _curve(level, dfs))


@lru_cache(maxsize=256)
def _curve(level: float, dfs: tuple[float, float]) -> np.ndarray:
    return critical_value(level, SHARES, dfs)


def _scales(share: np.ndarray, dfs: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return standard deviations `(..., nodes)` and weights `(nodes,)`: the sum is a mixture of normals."""
    (first, weights), (second, others) = map(_chi_squares, dfs)
    parts = share[..., None, None] / first[:, None] + (1 - share)[..., None, None] / second
    return np.sqrt(parts).reshape(*share.shape, -1), np.outer(weights, others).ravel()


@lru_cache(maxsize=256)
def _chi_squares(df: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of a chi-square over its degrees of freedom.

    The nodes are those of Gauss and Legendre in a power of its root, close together near 0.
    """
    if df == 0:
        return np.ones(1), np.ones(1)
    spread = REACH / np.sqrt(2 * df)
    low, high = max(0.0, 1 - spread), 1 + spread
    power, num = (3, NODES) if low == 0 else (1, FEW_NODES)
    x, weights = np.polynomial.legendre.leggauss(num)
    z = (x + 1) / 2
    root = low + (high - low) * z**power
    log_density = (df - 1) * np.log(root) - df * np.square(root) / 2
    density = weights * z ** (power - 1) * np.exp(log_density - log_density.max())
    return np.square(root), density / density.sum()
