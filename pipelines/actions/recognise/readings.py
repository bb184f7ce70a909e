"""Recognise which tasks the rows of a file fit: by the names of the columns, then by their values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.actions.recognise.columns import (
    ANSWERS,
    CONTEXTS,
    LABELS,
    LANGUAGES,
    LONG,
    MOST_LABELS,
    NUMBERS,
    PAIRS,
    QUESTIONS,
    SHORT,
    SOURCES,
    STARTS,
    TAGS,
    TOKENS,
    WRITTEN,
    Columns,
    Row,
)

SUMMARY_SHARE = 0.6  # of the length of a text, below which what is written from it is a summary


@dataclass(frozen=True)
class Reading:
    """One way to read the rows: a task, where its columns are, its options, and why."""

    task: str
    columns: Mapping[str, str]  # the task's column -> path in the data
    why: str
    options: Mapping[str, Any] = field(default_factory=dict)


def readings(rows: Sequence[Row]) -> list[Reading]:
    """Return the ways to read these rows, one for each task that fits, the most likely first.

    Fields of objects ({"review": {"text": ...}}) are looked at where no column fits.
    """
    return _readings(rows) or _readings([_fields(row) for row in rows])


def _fields(row: Row) -> dict[str, Any]:
    """Return a row with the fields of its objects as columns: {"review.text": ...}."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        inner = _fields(value) if isinstance(value, dict) else {}
        found |= {f"{name}.{field}": one for field, one in inner.items()} if inner else {name: value}
    return found


def _readings(rows: Sequence[Row]) -> list[Reading]:
    columns = Columns(rows)
    texts = (_two_texts, _classes) if _name_two_texts(columns) else (_classes, _two_texts)
    found: dict[str, Reading] = {}
    for way in (_words, _questions, _parallel, _series, *texts, _text):
        for reading in way(columns):
            found.setdefault(reading.task, reading)
    return list(found.values())


def _name_two_texts(columns: Columns) -> bool:
    """Return whether the names of two columns say that one text is written from the other."""
    texts = [name.lower() for name in columns.words]
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
        name for name in columns.words if _share(columns, name, lambda text: text.rstrip()[-1:] in "?？")
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


def _series(columns: Columns) -> Iterator[Reading]:
    """A column of dates beside columns of numbers, and no text."""
    channels = [name for name in columns.there if columns.numbers(name)]
    if len(columns.dates) == 1 and channels and not columns.words:
        [when] = columns.dates
        why = f"{when} says when, {', '.join(channels)} hold a number each"
        yield Reading("forecasting", {"time": when}, why, {"channels": channels})


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
        named = [next(columns.named(name)) for name in pair] if pair else _numbered(inputs) or [first]
        mapped = {**dict(zip(("text", "text_pair"), named)), "label": label}
        kinds = {"multi_label": "several labels", "regression": "a number"}
        why = f"{label} holds {kinds.get(options.get('kind', ''), 'one label')} for {' and '.join(named)}"
        others = [name for name in dict.fromkeys(labels) if name != label and columns.few(name)]
        more = f"; {', '.join(others)} may be labels too (data.columns.label)" if others else ""
        yield Reading("text_classification", mapped, why + more, options)
        return


def _numbered(texts: Sequence[str]) -> list[str]:
    """Return two columns whose names differ in a last 1 and 2 or a and b (Satz1, Satz2), in this order."""
    for first in texts:
        other = re.sub(r"[1aA]$", lambda end: {"1": "2", "a": "b", "A": "B"}[end[0]], first)
        if other != first and other in texts:
            return [first, other]
    return []


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
    named = [n for n in columns.words if n.lower() in (*LONG, *SHORT, *SOURCES, *WRITTEN, *LANGUAGES)]
    lists = [n for n in columns.there if columns.all_are(n, list) and _are_texts(columns, n)]
    labels = [*columns.named(*LABELS)]
    texts = [n for n in dict.fromkeys([*columns.texts, *named, *lists]) if n not in labels]
    spoken = {
        name: LANGUAGES[name.lower()] for name in columns.there if name in texts and name.lower() in LANGUAGES
    }
    order = list(spoken) if len(spoken) == 2 else []
    first_two = [name for name in columns.there if name in texts][:2]
    if not named and len(first_two) == 2 and _are_alike(*map(columns.length, first_two)):
        texts = first_two  # neither name nor length says which is written from the other: as in the file
    source = next((n for n in (*order[:1], *columns.named(*SOURCES, *LONG), *texts) if n in texts), None)
    written = (*order[1:], *columns.named(*WRITTEN, *SHORT), *texts)
    target = next((n for n in written if n in texts and n != source), None)
    if source is None or target is None:
        return
    mapped = {"source": source, "target": target}
    share = columns.length(target) / max(columns.length(source), 1)
    language = {"target_language": spoken[target]} if target in spoken else {}
    why = f"{target} has {share:.0%} of the length of {source}"
    translation = Reading("translation", mapped, why, language)
    summary = Reading("summarization", mapped, why)
    says = target.lower() in SHORT and target.lower() not in WRITTEN
    shorter = not order and (says or (share < SUMMARY_SHARE and target.lower() != "translation"))
    yield from (summary, translation) if shorter else (translation, summary)


def _are_alike(one: float, other: float) -> bool:
    return min(one, other) >= SUMMARY_SHARE * max(one, other)


def _text(columns: Columns) -> Iterator[Reading]:
    for name in dict.fromkeys([*columns.named("text", "content", "body"), *columns.texts]):
        if columns.all_are(name, str):
            yield Reading("language_modelling", {"text": name}, f"{name} holds texts to learn")
            return


# ---- values
def _rank(names: Sequence[str]) -> Any:
    return lambda name: names.index(name.lower()) if name.lower() in names else len(names)


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
