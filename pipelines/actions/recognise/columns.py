"""The columns of rows: by which names people call them, and what their values are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

Row = Mapping[str, Any]

TOKENS = ("tokens", "words")
TAGS = ("ner_tags", "tags", "labels", "ner", "entities")
IDS = ("id", "idx", "index", "guid", "uuid", "cluster", "_id")
LABELS = (
    "label",
    "labels",
    "class",
    "category",
    "sentiment",
    "intent",
    "topic",
    "emotion",
    "stars",
    "rating",
    "gold_label",
    "klasse",
    "kategorie",
    "stimmung",
    "thema",
)
NUMBERS = (
    "score",
    "similarity",
    "similarity_score",
    "rating",
    "stars",
    "target",
    "y",
    "note",
    "wert",
    "punkte",
)
QUESTIONS = ("question", "query", "frage")
CONTEXTS = ("context", "passage", "paragraph", "document", "kontext", "absatz", "text")
ANSWERS = ("answers", "answer", "antworten", "antwort")
STARTS = ("answer_starts", "answer_start", "start")
PAIRS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
)
LONG = (
    "document",
    "article",
    "dialogue",
    "source",
    "text",
    "body",
    "content",
    "report",
    "artikel",
    "bericht",
)
SHORT = ("summary", "highlights", "abstract", "zusammenfassung", "headline", "tldr", "title", "target")
SOURCES = ("source", "src", "input", "quelle")
WRITTEN = ("target", "tgt", "translation", "output", "ziel", "übersetzung")
LANGUAGES = {
    name: code
    for code, names in {
        "en": "english eng englisch", "de": "german deutsch deu ger", "fr": "french fra fre französisch",
        "es": "spanish spa spanisch",
        "it": "italian ita", "pt": "portuguese por", "nl": "dutch nld", "ro": "romanian ron",
        "ru": "russian rus",
        "zh": "chinese zho", "ja": "japanese jpn", "ko": "korean kor", "cs": "czech ces", "pl": "polish pol",
        "tr": "turkish tur", "ar": "arabic ara", "hi": "hindi hin", "fi": "finnish fin", "sv": "swedish swe",
        "da": "danish dan", "uk": "ukrainian ukr", "hu": "hungarian hun", "el": "greek ell",
        "vi": "vietnamese vie",
    }.items()
    for name in (code, *names.split())
}  # fmt: skip
MOST_LABELS = 200
WHEN = re.compile(r"(?:\d{4}-\d\d?-\d\d?|\d\d?[./]\d\d?[./]\d{2,4})(?:[T ]\d\d?:\d\d.*)?")  # a date
LABEL_LENGTH = 40  # characters of a label, on average, at most


class Columns:
    """The columns of the rows, without those that number them.

    Args:
        rows: the rows of a file; those that could not be read are left out by the caller.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        names = dict.fromkeys(name for row in rows for name in row)
        self.values = {name: [row.get(name) for row in rows] for name in names if name.lower() not in IDS}
        self.there = {name: [v for v in values if v is not None] for name, values in self.values.items()}
        self.there = {name: found for name, found in self.there.items() if found}
        self.dates = [name for name in self.there if self.all_are(name, str) and self._are_dates(name)]

    def named(self, *names: str) -> Iterator[str]:
        """Yield the columns that have one of these names, in the order of the names, in any case."""
        yield from (there for name in names for there in self.there if there.lower() == name)

    def all_are(self, name: str, *kinds: type) -> bool:
        """Return whether every value of a column is of these types."""
        return all(isinstance(value, kinds) for value in self.there[name])

    @property
    def texts(self) -> list[str]:
        """The columns of texts that are neither numbers nor one of a few labels, longest first."""
        return sorted((name for name in self.words if not self.few(name)), key=self.length, reverse=True)

    @property
    def words(self) -> list[str]:
        """The columns of texts that are neither numbers nor dates, in the order of the file."""
        found = (name for name in self.there if self.all_are(name, str) and name not in self.dates)
        return [name for name in found if not self.numbers(name)]

    def length(self, name: str) -> float:
        """Return the mean length of the texts of a column, in characters."""
        return fmean(len(first_of(value)) for value in self.there[name])

    def numbers(self, name: str) -> list[float]:
        """Return the values of a column of numbers, written as numbers or texts; empty for another."""
        try:
            return [_number(value) for value in self.there[name] if not isinstance(value, bool)]
        except (TypeError, ValueError):
            return []

    def few(self, name: str) -> bool:
        """Return whether a column has few distinct short values, as labels have."""
        found = self.there[name]
        if not self.all_are(name, str, int, bool) or name in self.dates:
            return False
        distinct = len(set(map(str, found)))
        mean = fmean(len(str(value)) for value in found)
        return 2 <= distinct <= min(MOST_LABELS, max(2, len(found) // 2)) and mean <= LABEL_LENGTH

    def _are_dates(self, name: str) -> bool:
        return all(WHEN.fullmatch(value) for value in self.there[name])


def _number(value: Any) -> float:
    """Return a number; a text may have a decimal comma, which the task asks to be written as a point."""
    return float(re.sub(r"^([+-]?\d+),(\d+)$", r"\1.\2", value) if isinstance(value, str) else value)


def first_of(value: object) -> str:
    """Return a text, or the first of a list of texts."""
    return str(value[0]) if isinstance(value, list) and value else str(value)
