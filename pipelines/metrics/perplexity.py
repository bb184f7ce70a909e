"""Corpus perplexity, and bits per byte for models with different tokenizers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from pipelines.errors import UserError
from pipelines.metrics.base import Metric, ratio


class Perplexity(Metric):
    """exp(total negative log-likelihood / total tokens), never a mean of the texts' perplexities.

    A prediction is `{"nll": nats, "num_tokens": n, "num_bytes": b}` of one text; references are not used.
    Perplexities of models with different tokenizers cannot be compared; bits per byte can.
    Perplexities are compared by their ratio, bits per byte by their difference.

    Args:
        unit: "token" for perplexity, "byte" for bits per byte of UTF-8.
    """

    higher_is_better = False

    def __init__(self, unit: Literal["token", "byte"] = "token") -> None:
        if unit not in ("token", "byte"):
            raise UserError("metric perplexity", "unknown unit", unit, "token or byte")
        self.unit = unit
        self.name = "perplexity" if unit == "token" else "bits_per_byte"
        self.columns = ("nll", f"num_{unit}s")
        self.scale = "log" if unit == "token" else "linear"

    @property
    def signature(self) -> str:
        per = "exp(nll/tokens)" if self.unit == "token" else "nll/ln2/bytes"
        return f"{self.name}|{per}|average:micro"

    def statistics(self, prediction: Mapping[str, float], reference: Any = None) -> np.ndarray:
        return np.array([prediction[name] for name in self.columns], dtype=np.float64)

    def score(self, sums: np.ndarray) -> np.ndarray:
        mean = ratio(sums)
        if self.unit == "byte":
            return mean / math.log(2)
        with np.errstate(over="ignore"):  # a model that has diverged has perplexity inf
            return np.exp(mean)

    def library_score(self, predictions: Sequence[Mapping[str, float]], references: Sequence[Any]) -> float:
        nll, count = (math.fsum(text[name] for text in predictions) for name in self.columns)
        mean = nll / count if count else 0.0
        if self.unit == "byte":
            return mean / math.log(2)
        return float(np.exp(mean))
