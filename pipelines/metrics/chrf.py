"""Corpus chrF and chrF++ as sacrebleu computes and signs them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.metrics.base import Metric
from pipelines.metrics.bleu import checked_references, corpus_score, sacrebleu_signature


class Chrf(Metric):
    """F2 of character n-grams over the corpus (Popović 2015, 2017). It needs no tokenizer in any language.

    A prediction is a text; a reference is a text or a list of them, of which the best counts.

    Args:
        word_order: 0 for chrF; 2 adds word 1- and 2-grams and makes it chrF++.
        lowercase: ignore case.
        num_references: references of every example; None for a number that varies.
    """

    def __init__(self, word_order: int = 0, lowercase: bool = False, num_references: int | None = 1) -> None:
        from sacrebleu.metrics import CHRF

        self.word_order, self.lowercase, self.num_references = word_order, lowercase, num_references
        self.name = "chrf" + "+" * word_order
        self._corpus = CHRF(word_order=word_order, lowercase=lowercase)
        orders = [f"char{n + 1}" for n in range(self._corpus.char_order)]
        orders += [f"word{n + 1}" for n in range(word_order)]
        self.columns = tuple(
            f"{kind}_{order}" for order in orders for kind in ("hypothesis", "reference", "matches")
        )

    @property
    def signature(self) -> str:
        name = f"chrF{self._corpus.beta}" + "+" * self.word_order
        return sacrebleu_signature(self._corpus, name, self.num_references)

    def statistics(self, prediction: str, reference: str | Sequence[str]) -> np.ndarray:
        references = checked_references(reference, self.num_references, self.name)
        # sacrebleu publishes no counts of chrF. This method is private, so pyproject.toml bounds the version;
        # `reported_score` checks the sums against the public score.
        counts = self._corpus._extract_corpus_statistics([prediction], [[text] for text in references])[0]
        return np.array(counts, dtype=np.float64)

    def score(self, sums: np.ndarray) -> np.ndarray:
        """Compute what sacrebleu's `_compute_f_score` does, for whole arrays, in its order of operations."""
        counts = np.asarray(sums, dtype=np.float64)
        counts = counts.reshape(*counts.shape[:-1], -1, 3)
        precision, recall = np.zeros(counts.shape[:-2]), np.zeros(counts.shape[:-2])
        num_orders = np.zeros(counts.shape[:-2])
        for order in range(counts.shape[-2]):
            hypothesis, reference, matches = np.moveaxis(counts[..., order, :], -1, 0)
            used = (hypothesis > 0) & (reference > 0)
            precision += np.where(used, matches / np.where(used, hypothesis, 1), 0)
            recall += np.where(used, matches / np.where(used, reference, 1), 0)
            num_orders += used
        precision, recall = (part / np.maximum(num_orders, 1) for part in (precision, recall))
        factor = self._corpus.beta**2
        below = factor * precision + recall
        return 100 * ((1 + factor) * precision * recall / np.where(below > 0, below, 1))

    def library_score(self, predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
        return corpus_score(self._corpus, predictions, references)
