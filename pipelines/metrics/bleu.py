"""Corpus BLEU as sacrebleu computes and signs it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.errors import UserError
from pipelines.metrics.base import Metric, one_or_more
from pipelines.metrics.languages import code_of, is_unspaced, note_on, unknown

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as SacrebleuMetric

ORDERS = 4
AT_BLANKS = {"13a", "intl", "none"}  # tokenizers that split a text at its blanks and punctuation only
# Languages that the tokenizer 13a cannot split; for the last five, which write no blanks, sacrebleu has none
TOKENIZERS = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"} | dict.fromkeys(
    ("th", "lo", "km", "my", "bo"), "char"
)


class Bleu(Metric):
    """BLEU over the corpus, exponential smoothing, mixed case (Papineni 2002; Post 2018).

    A prediction is a text; a reference is a text or a list of them.

    Args:
        target_language: by any usual code or name ("de", "zho_Hans"); chooses the tokenizer unless
            `tokenize` does (13a does not split Chinese sentences, so that good translations can score 0).
        tokenize: a sacrebleu tokenizer by name.
        num_references: references of every example; None for a number that varies. It is part of the
            signature, and an example with another number is refused.
    """

    name = "bleu"
    columns = (
        "hypothesis_len",
        "reference_len",
        *(f"matches_{n}" for n in range(1, ORDERS + 1)),
        *(f"totals_{n}" for n in range(1, ORDERS + 1)),
    )

    def __init__(
        self, target_language: str = "", tokenize: str | None = None, num_references: int | None = 1
    ) -> None:
        import sacrebleu.utils
        from sacrebleu.metrics import BLEU

        self.target_language, self.tokenize, self.num_references = target_language, tokenize, num_references
        self._tokenizer = chosen = tokenize or TOKENIZERS.get(code_of(target_language), "13a")
        if chosen not in BLEU.TOKENIZERS:
            raise UserError("metric bleu", "there is no such tokenizer", chosen, ", ".join(BLEU.TOKENIZERS))
        try:
            # effective_order changes only scores of single sentences; without it sacrebleu warns each time
            self._sentence = BLEU(tokenize=chosen, effective_order=True)
            self._corpus = BLEU(tokenize=chosen)
        except RuntimeError as error:
            raise UserError(
                f"metric bleu, tokenizer {chosen}",
                "its package is not installed",
                accepted=f"pip install 'sacrebleu[{chosen[:2]}]', or set task.tokenize: char",
            ) from error
        except OSError as error:  # of sentencepiece: sacrebleu downloads their models at first use
            raise UserError(
                f"metric bleu, tokenizer {chosen}",
                f"sacrebleu cannot get its model ({error})",
                accepted=f"put it below {sacrebleu.utils.SACREBLEU_DIR}/models, start again where there is a "
                "network, or set task.tokenize: char",
            ) from error

    @property
    def signature(self) -> str:
        return sacrebleu_signature(self._corpus, "BLEU", self.num_references)

    def statistics(self, prediction: str, reference: str | Sequence[str]) -> np.ndarray:
        references = checked_references(reference, self.num_references, self.name)
        found = self._sentence.sentence_score(prediction, references)
        return np.array([found.sys_len, found.ref_len, *found.counts, *found.totals], dtype=np.float64)

    def score(self, sums: np.ndarray) -> np.ndarray:
        """Compute what sacrebleu's `compute_bleu` does, for whole arrays, in its order of operations."""
        sums = np.asarray(sums, dtype=np.float64)
        hypothesis_len, reference_len = sums[..., 0], sums[..., 1]
        matches, totals = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS :]
        zero = matches == 0
        smooth = np.where(zero, 2.0 ** np.cumsum(zero, axis=-1), 1.0)
        precisions = 100.0 * np.where(zero, 1.0, matches) / (smooth * np.maximum(totals, 1))
        score = brevity(hypothesis_len, reference_len) * geometric_mean(*np.moveaxis(precisions, -1, 0))
        counted = np.any(matches > 0, axis=-1) & np.all(totals > 0, axis=-1)
        return np.where(counted, score, 0.0).astype(np.float64)

    def library_score(self, predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
        return corpus_score(self._corpus, predictions, references)

    def note(self, references: Sequence[str | Sequence[str]]) -> str | None:
        texts = [one_or_more(reference) for reference in references]
        if self._tokenizer in AT_BLANKS:
            lost = {text: is_unspaced(text) for group in texts for text in group}
            what = (
                f"which the tokenizer {self._tokenizer} does not split: set the target language, such as zh"
            )
            if found := note_on(texts, lost, f"{{}} are in a script without blanks, {what}"):
                return found
        if not self.tokenize and (reason := unknown(self.target_language)):
            return f"{reason}, so the tokenizer is {self._tokenizer}"
        copied = [group[0] for group in texts if group]
        if copied and corpus_score(self._corpus, copied, copied) == 0:
            return f"the references score 0 against themselves: none has {ORDERS} tokens"
        return None


def _elementwise(function: Callable[..., float]) -> Callable[..., np.ndarray]:
    """Apply a function of Python floats to arrays: numpy's exp and log may round the last bit differently."""
    return np.frompyfunc(function, function.__code__.co_argcount, 1)


geometric_mean = _elementwise(lambda a, b, c, d: math.exp(sum([math.log(p) for p in (a, b, c, d)]) / ORDERS))
brevity = _elementwise(
    lambda hypothesis, reference: (
        1.0 if hypothesis >= reference else math.exp(1 - reference / hypothesis) if hypothesis > 0 else 0.0
    )
)


def checked_references(reference: str | Sequence[str], expected: int | None, metric: str) -> list[str]:
    """Return the references of one example.

    Raises:
        UserError: their number is not the one in the signature.
    """
    references = one_or_more(reference)
    if not references or (expected is not None and len(references) != expected):
        raise UserError(
            f"metric {metric}",
            f"an example has {len(references)} references where num_references says {expected or 'any'}",
            accepted="set num_references to their number, or to null if it varies",
        )
    return references


def corpus_score(
    metric: SacrebleuMetric, predictions: Sequence[str], references: Sequence[str | Sequence[str]]
) -> float:
    """Return a sacrebleu metric's score of a corpus; examples may have different numbers of references."""
    if not predictions:
        return 0.0
    rows = [one_or_more(reference) for reference in references]
    most = max(len(row) for row in rows)
    by_place = [[row[place] if place < len(row) else None for row in rows] for place in range(most)]
    # sacrebleu accepts None for a missing reference, its annotations do not.
    return float(metric.corpus_score(list(predictions), by_place).score)  # type: ignore[arg-type]


def sacrebleu_signature(metric: SacrebleuMetric, name: str, num_references: int | None) -> str:
    """Return the signature that sacrebleu prints after scoring, without scoring anything."""
    metric.num_refs = -1 if num_references is None else num_references  # sacrebleu writes "var" for -1
    return f"{name}|{metric.get_signature().format()}"
