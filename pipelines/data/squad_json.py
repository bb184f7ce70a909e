"""The nested JSON of the SQuAD releases (articles, paragraphs, questions) as one row per question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Row = dict[str, Any]


def is_nested(entries: Sequence[Any]) -> bool:
    """Return whether these are articles (the first has paragraphs with questions) or paragraphs of them."""
    first = entries[0] if entries and isinstance(entries[0], dict) else {}
    paragraphs = _paragraphs(first)
    return isinstance(paragraphs, list) and all(isinstance(p, dict) and "qas" in p for p in paragraphs[:1])


def _paragraphs(article: Row) -> Any:
    return [article] if "qas" in article else article.get("paragraphs")


def questions(articles: Sequence[Any]) -> Iterator[Row | str]:
    """Yield one row per question: id, title, context, question, answers (`text` and `answer_start`, lists).

    `is_impossible` is there where the question has it. For a question that cannot be read, the reason is
    yielded instead, a clause. The answers that SQuAD 2.0 calls plausible are not answers and are left out.
    """
    for article in articles:
        paragraphs = _paragraphs(article) if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            yield "is an article without a list of paragraphs"
            continue
        for paragraph in paragraphs:
            if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
                yield "is a paragraph without a list of questions (qas)"
                continue
            above = {"title": article.get("title"), "context": paragraph.get("context")}
            yield from (_question(above, question) for question in paragraph["qas"])


def _question(above: Row, question: Any) -> Row | str:
    if not isinstance(question, dict):
        return "is a question that is not an object"
    answers = question.get("answers")
    answers = [] if answers is None else answers
    if isinstance(answers, dict):  # one answer, or columns of several
        columns = {name: answers.get(name) for name in ("text", "answer_start")}
    elif isinstance(answers, list) and all(isinstance(answer, dict) for answer in answers):
        columns = {name: [answer.get(name) for answer in answers] for name in ("text", "answer_start")}
    else:
        return "has answers that are not a list of objects"
    kept = {name: question[name] for name in ("id", "is_impossible") if name in question}
    return {**kept, **above, "question": question.get("question"), "answers": columns}
