"""ROUGE-1, -2, -L and -Lsum by rouge-score: the mean over examples, with a stated tokenizer and stemmer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Literal, get_args

import numpy as np

from pipelines.errors import UserError
from pipelines.metrics.base import Metric, mean, one_or_more, ratio
from pipelines.metrics.languages import UNSPACED, code_of, note_on, unknown

Measure = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]
MEASURES = get_args(Measure)
SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？｡])[」』”’）]*\s*")


class Rouge(Metric):
    """F-measure of ROUGE against the best reference, mean over examples (Lin 2004).

    A prediction is a text; a reference is a text or a list of them. For English the tokens are those of
    rouge-score (`[a-z0-9]+`, with Porter stems by default), as in the summarization literature. That
    tokenizer drops accented letters and whole scripts, so for any other language tokens are runs of Unicode
    letters, digits and marks without stems, or single characters where a script has no spaces.
    ROUGE-Lsum splits a text at its line breaks. A text without any is split after `. ! ? …` before white
    space and after `。！？`: a fixed rule that needs no download, but also splits after abbreviations.

    Args:
        measure: "rouge1", "rouge2", "rougeL" or "rougeLsum".
        language: of the texts, by any usual code or name ("en", "eng", "German").
        stemmer: Porter stems, English only; None means wherever the language is English.
    """

    columns = ("f_measure", "count")

    def __init__(
        self,
        measure: Measure = "rouge1",
        language: str = "en",
        stemmer: bool | None = None,
    ) -> None:
        from rouge_score.rouge_scorer import RougeScorer

        english = code_of(language) == "en"
        if measure not in MEASURES:
            raise UserError("metric rouge", "unknown measure", measure, ", ".join(MEASURES))
        if stemmer and not english:
            raise UserError("metric rouge", "there is only an English stemmer", language, "leave stemmer out")
        self.measure = self.name = measure
        self.language, self.stemmer = language, english if stemmer is None else stemmer
        self._tokenizer = English(self.stemmer) if english else AnyLanguage()
        self._scorer = RougeScorer([measure], tokenizer=self._tokenizer)

    @property
    def signature(self) -> str:
        parts = [
            f"rouge-score|version:{version('rouge-score')}|{self.measure}|f-measure|average:mean",
            f"tok:{self._tokenizer.name}|stem:{'porter' if self.stemmer else 'no'}",
        ]
        return "|".join(parts + (["sentences:newline-or-punctuation"] if self.measure == "rougeLsum" else []))

    def statistics(self, prediction: str, reference: str | Sequence[str]) -> np.ndarray:
        return np.array([self._f_measure(prediction, reference), 1.0])

    def score(self, sums: np.ndarray) -> np.ndarray:
        return ratio(sums, 100)

    def library_score(self, predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
        return mean([self._f_measure(p, r) for p, r in zip(predictions, references, strict=True)], 100)

    def note(self, references: Sequence[str | Sequence[str]]) -> str | None:
        if not isinstance(self._tokenizer, English):
            reason = unknown(self.language)
            return reason and f"{reason}, so words are runs of letters, without stems"
        texts = [one_or_more(reference) for reference in references]
        lost = {text: not is_mostly_latin(text) for group in texts for text in group}
        what = "{} are mostly in letters that the tokenizer of English drops: set the language, such as zh"
        return note_on(texts, lost, what)

    def _f_measure(self, prediction: str, reference: str | Sequence[str]) -> float:
        texts = [prediction, *one_or_more(reference)]
        if self.measure == "rougeLsum":
            texts = ["\n".join(sentences(text)) for text in texts]
        return float(self._scorer.score_multi(texts[1:], texts[0])[self.measure].fmeasure)


def sentences(text: str) -> list[str]:
    """Return the lines of a text that has several, else its sentences by final punctuation; none is empty."""
    lines = text.split("\n") if "\n" in text.strip() else SENTENCE_END.split(text)
    return [line.strip() for line in lines if line.strip()]


def is_mostly_latin(text: str) -> bool:
    """Whether the tokenizer of English keeps at least half of the letters of a text."""
    letters = [letter for letter in text.lower() if letter.isalpha()]
    return 2 * sum("a" <= letter <= "z" for letter in letters) >= len(letters)


class English:
    """The tokenizer of rouge-score, with a cache of stems, which take most of the time of ROUGE."""

    name = "latin"

    def __init__(self, stemmer: bool) -> None:
        self._stemmer = Stemmer() if stemmer else None

    def tokenize(self, text: str) -> list[str]:
        from rouge_score.tokenize import tokenize

        return tokenize(text, self._stemmer)


class Stemmer:
    """The Porter stemmer of nltk with a cache."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        self.stem = lru_cache(maxsize=1 << 16)(PorterStemmer().stem)


class AnyLanguage:
    """Runs of letters, digits and marks in lower case; single characters in scripts without spaces."""

    name = "unicode"

    def tokenize(self, text: str) -> list[str]:
        text = unicodedata.normalize("NFC", text).lower()
        kept = "".join(c if unicodedata.category(c)[0] in "LNM" else " " for c in text)
        return UNSPACED.sub(r" \1 ", kept).split()
