"""Recognise which tasks the rows of a file fit: by the names of the columns, then by their values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
)
NUMBERS = ("score", "similarity", "similarity_score", "rating", "stars", "target", "y")
QUESTIONS = ("question", "query")
CONTEXTS = ("context", "passage", "paragraph", "document", "text")
ANSWERS = ("answers", "answer")
STARTS = ("answer_starts", "answer_start", "start")
PAIRS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
)
LONG = ("document", "article", "dialogue", "source", "text", "body", "content", "report")
SHORT = ("summary", "highlights", "abstract", "zusammenfassung", "headline", "tldr", "title", "target")
SOURCES = ("source", "src", "input")
WRITTEN = ("target", "tgt", "translation", "output")
LANGUAGES = {
    name: code
    for code, names in {
        "en": "english eng", "de": "german deutsch deu ger", "fr": "french fra fre", "es": "spanish spa",
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
LABEL_LENGTH = 40  # characters of a label, on average, at most
SUMMARY_SHARE = 0.6  # of the length of a text, below which what is written from it is a summary


@dataclass(frozen=True)
class Reading:
    """One way to read the rows: a task, where its columns are, its options, and why."""

    task: str
    columns: Mapping[str, str]  # the task's column -> path in the data
    why: str
    options: Mapping[str, Any] = field(default_factory=dict)


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

    def named(self, *names: str) -> Iterator[str]:
        """Yield the columns that have one of these names, in the order of the names, in any case."""
        yield from (there for name in names for there in self.there if there.lower() == name)

    def all_are(self, name: str, *kinds: type) -> bool:
        """Return whether every value of a column is of these types."""
        return all(isinstance(value, kinds) for value in self.there[name])

    @property
    def texts(self) -> list[str]:
        """The columns of texts that are neither numbers nor one of a few labels, longest first."""
        found = [n for n in self.there if self.all_are(n, str) and not self.numbers(n) and not self.few(n)]
        return sorted(found, key=self.length, reverse=True)

    def length(self, name: str) -> float:
        """Return the mean length of the texts of a column, in characters."""
        return fmean(len(_first(value)) for value in self.there[name])

    def numbers(self, name: str) -> list[float]:
        """Return the values of a column of numbers, written as numbers or texts; empty for another."""
        try:
            return [float(value) for value in self.there[name] if not isinstance(value, bool)]
        except (TypeError, ValueError):
            return []

    def few(self, name: str) -> bool:
        """Return whether a column has few distinct short values, as labels have."""
        found = self.there[name]
        if not self.all_are(name, str, int, bool):
            return False
        distinct = len(set(map(str, found)))
        mean = fmean(len(str(value)) for value in found)
        return 2 <= distinct <= min(MOST_LABELS, max(2, len(found) // 2)) and mean <= LABEL_LENGTH


def readings(rows: Sequence[Row]) -> list[Reading]:
    """Return the ways to read these rows, one for each task that fits, the most likely first."""
    columns = Columns(rows)
    texts = (_two_texts, _classes) if _name_two_texts(columns) else (_classes, _two_texts)
    found: dict[str, Reading] = {}
    for way in (_words, _questions, _parallel, *texts, _text):
        for reading in way(columns):
            found.setdefault(reading.task, reading)
    return list(found.values())


def _name_two_texts(columns: Columns) -> bool:
    """Return whether the names of two columns say that one text is written from the other."""
    texts = [name.lower() for name in columns.texts]
    told = any(name in texts for name in LONG + SOURCES) and any(name in texts for name in SHORT + WRITTEN)
    spoken = sum(name in LANGUAGES for name in texts) == 2
    return (told or spoken) and not any(columns.named(*LABELS))


def _words(columns: Columns) -> Iterator[Reading]:
    lists = [name for name in columns.there if columns.all_are(name, list)]
    words = [
        name for name in lists if all(isinstance(w, str) for value in columns.there[name] for w in value)
    ]
    for tokens in sorted(words, key=_rank(TOKENS)):
        for tags in sorted(lists, key=_rank(TAGS)):
            pairs = [(row.get(tokens), row.get(tags)) for row in columns.rows]
            aligned = [a and b is not None and len(a) == len(b) for a, b in pairs]
            if tags == tokens or sum(map(bool, aligned)) < len(aligned) / 2:
                continue
            found = Counter(tag for value in columns.there[tags] for tag in value)
            numbered = all(isinstance(tag, int) for tag in found)
            if not numbered and "O" not in found:
                continue
            options = {"labels": _numbered_tags(max(found))} if numbered else {}
            why = f"{tokens} holds words, {tags} one tag for each"
            guess = (
                "; the tags are numbers: labels are named by the usual order (O, B-1, I-1, ...), rename them"
            )
            mapped = {"tokens": tokens, "tags": tags}
            yield Reading("ner", mapped, why + guess * numbered, options)
            return


def _numbered_tags(largest: int) -> list[str]:
    names = [f"{prefix}-{number}" for number in range(1, largest // 2 + 2) for prefix in "BI"]
    return ["O", *names[: largest + largest % 2]]


def _questions(columns: Columns) -> Iterator[Reading]:
    asked = [
        name for name in columns.texts if _share(columns, name, lambda text: text.rstrip()[-1:] in "?？")
    ]
    question = next(iter([*columns.named(*QUESTIONS), *asked]), None)
    contexts = [*columns.named(*CONTEXTS), *columns.texts]
    context = next((name for name in contexts if name != question and columns.all_are(name, str)), None)
    if question is None or context is None:
        return
    mapped = {"question": question, "context": context}
    inside = [
        name for name in columns.there if name not in mapped.values() and _within(columns, name, context)
    ]
    for name in dict.fromkeys([*columns.named(*ANSWERS), *inside]):
        structs = [value for value in columns.there[name] if isinstance(value, dict) or _are_structs(value)]
        fields = {
            key for value in structs for one in (value if isinstance(value, list) else [value]) for key in one
        }
        path = f"{name}.text" if structs else name
        if structs and "text" not in fields:
            continue
        starts = f"{name}.answer_start" if "answer_start" in fields else next(columns.named(*STARTS), None)
        answers = [_answers(value) for value in columns.values[name]]
        impossible = [row.get(n) for n in columns.named("is_impossible") for row in columns.rows]
        none = not all(answers) or any(str(value).lower() in ("true", "1", "1.0") for value in impossible)
        options = {"unanswerable": True} if none else {}
        why = f"{name} answers {question} about {context}"
        if starts is not None:
            spans = {**mapped, "answers": path, "answer_starts": starts}
            yield Reading("question_answering", spans, f"{why}, and {starts} says where", options)
        why += "" if starts else "; nothing says where in it, so the answer is written, not found"
        yield Reading("generative_question_answering", {**mapped, "answers": path}, why, options)
        return


def _parallel(columns: Columns) -> Iterator[Reading]:
    for name in columns.there:
        if columns.all_are(name, dict):
            keys = list(dict.fromkeys(key for value in columns.there[name] for key in value))
            if len(keys) == 2 and all(key.lower().split("_")[0].split("-")[0] in LANGUAGES for key in keys):
                mapped = {"source": f"{name}.{keys[0]}", "target": f"{name}.{keys[1]}"}
                options = {"target_language": keys[1]}
                yield Reading("translation", mapped, f"{name} holds a text in {' and '.join(keys)}", options)
                return


def _classes(columns: Columns) -> Iterator[Reading]:
    texts, labels = columns.texts, [*columns.named(*LABELS)]
    numbers = [*columns.named(*NUMBERS), *(name for name in columns.there if columns.numbers(name))]
    labels += [name for name in columns.there if columns.few(name) or _are_label_lists(columns, name)]
    for label in dict.fromkeys([*labels, *numbers]):
        inputs = [name for name in texts if name != label]
        if not inputs or label not in columns.there or (label in texts and label.lower() not in LABELS):
            continue
        options = _kind(columns, label, is_named=label.lower() in LABELS + NUMBERS)
        if options is None:
            continue
        pair = next((two for two in PAIRS if all(list(columns.named(n)) for n in two)), None)
        first = next(iter([*columns.named("text"), *inputs]))
        named = [next(columns.named(name)) for name in pair] if pair else [first]
        mapped = {**dict(zip(("text", "text_pair"), named)), "label": label}
        kind = options.get("kind", "single").replace("single", "one label").replace("_", " ")
        yield Reading(
            "text_classification", mapped, f"{label} holds {kind} for {' and '.join(named)}", options
        )
        return


def _kind(columns: Columns, label: str, *, is_named: bool) -> dict[str, Any] | None:
    """Return the options that this column of labels needs; None where it holds no labels."""
    if _are_label_lists(columns, label):
        return {"kind": "multi_label"}
    numbers = columns.numbers(label)
    if columns.few(label) and all(number == int(number) >= 0 for number in numbers):
        return {}
    if numbers and (is_named or any(number != int(number) for number in numbers)):
        return {"kind": "regression"} if len(set(numbers)) > 1 else None
    distinct = {str(value) for value in columns.there[label]}
    return {} if is_named and not numbers and 2 <= len(distinct) <= MOST_LABELS else None


def _two_texts(columns: Columns) -> Iterator[Reading]:
    texts = [
        *columns.texts,
        *(n for n in columns.there if columns.all_are(n, list) and _are_texts(columns, n)),
    ]
    spoken = {
        name: LANGUAGES[name.lower()] for name in columns.there if name in texts and name.lower() in LANGUAGES
    }
    order = list(spoken) if len(spoken) == 2 else []
    source = next((n for n in (*order[:1], *columns.named(*SOURCES, *LONG), *texts) if n in texts), None)
    written = (*order[1:], *columns.named(*WRITTEN, *SHORT), *texts)
    target = next((n for n in written if n in texts and n != source), None)
    if source is None or target is None:
        return
    mapped = {"source": source, "target": target}
    share = columns.length(target) / max(columns.length(source), 1)
    language = {"target_language": spoken[target]} if order else {}
    why = f"{target} has {share:.0%} of the length of {source}"
    translation = Reading("translation", mapped, why, language)
    summary = Reading("summarization", mapped, why)
    says = target.lower() in SHORT and target.lower() not in WRITTEN
    shorter = not order and (says or (share < SUMMARY_SHARE and target.lower() != "translation"))
    yield from (summary, translation) if shorter else (translation, summary)


def _text(columns: Columns) -> Iterator[Reading]:
    for name in dict.fromkeys([*columns.named("text", "content", "body"), *columns.texts]):
        if columns.all_are(name, str):
            yield Reading("language_modelling", {"text": name}, f"{name} holds texts to learn")
            return


# ---- values
def _rank(names: Sequence[str]) -> Any:
    return lambda name: names.index(name.lower()) if name.lower() in names else len(names)


def _first(value: object) -> str:
    return str(value[0]) if isinstance(value, list) and value else str(value)


def _share(columns: Columns, name: str, test: Any) -> bool:
    found = columns.there[name]
    return sum(bool(test(value)) and bool(value.strip()) for value in found) > len(found) / 2


def _are_structs(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _are_texts(columns: Columns, name: str) -> bool:
    return all(
        isinstance(one, str) and re.search(r"\s", one) for value in columns.there[name] for one in value
    )


def _are_label_lists(columns: Columns, name: str) -> bool:
    if not columns.all_are(name, list):
        return False
    found = [one for value in columns.there[name] for one in value]
    return bool(found) and all(isinstance(one, str | int) for one in found) and len(set(found)) <= MOST_LABELS


def _answers(value: object) -> list[str]:
    if isinstance(value, dict):
        value = value.get("text")
    found = value if isinstance(value, list) else [value]
    texts = [one.get("text") if isinstance(one, dict) else one for one in found]
    return [text for text in texts if isinstance(text, str) and text]


def _within(columns: Columns, name: str, context: str) -> bool:
    """Return whether the texts of a column stand in the texts of another."""
    pairs = [(_answers(row.get(name)), row.get(context)) for row in columns.rows]
    there = [text[0] in context for text, context in pairs if text and isinstance(context, str)]
    return len(there) > len(pairs) / 2 and all(there) and columns.length(name) > 1
