"""The rows that every cell of the zoo reads: few, short, and of different lengths."""

from __future__ import annotations

from typing import Any

SENTENCES = (
    "Mira Holt lives near the old harbour of Lisbon.",
    "The ferry to Oslo leaves at nine, says Tom.",
    "Acme sold forty boats (all of them red) in May!",
    "Rain fell on Lima, and nobody minded.",
    "Every morning the baker of Lyon opens early.",
    "A letter from Nora came to Acme on Monday.",
)
OTHERS = (
    "Mira Holt wohnt am alten Hafen von Lissabon.",
    "Die Fähre nach Oslo fährt um neun, sagt Tom.",
    "Acme hat vierzig Boote verkauft (alle rot)!",
    "Regen fiel auf Lima, und niemand störte sich daran.",
    "Jeden Morgen öffnet der Bäcker von Lyon früh.",
    "Ein Brief von Nora kam am Montag zu Acme.",
)
LABELS = ("O", "B-LOC", "I-LOC", "B-ORG", "B-PER", "I-PER")  # the order of `Ner.fit`
_NAMES = {"Lisbon": "B-LOC", "Oslo": "B-LOC", "Lima": "B-LOC", "Lyon": "B-LOC", "Acme": "B-ORG"}
_NAMES |= {"Mira": "B-PER", "Holt": "I-PER", "Tom": "B-PER", "Nora": "B-PER"}
CLASSES = ("calm", "loud")


def _words(sentence: str) -> list[str]:
    for sign in ".,!()":
        sentence = sentence.replace(sign, f" {sign} ")
    return sentence.split()


def _question(sentence: str, number: int) -> dict[str, Any]:
    name = next(word for word in _words(sentence) if word in _NAMES)
    return {
        "question": f"Which name does line {number} hold?",
        "context": sentence,
        "answers": {"text": [name], "answer_start": [sentence.index(name)]},
    }


def _tags(words: list[str]) -> list[str]:
    tags = [_NAMES.get(word, "O") for word in words]
    tags[-1] = "I-LOC" if tags[-2] == "B-LOC" else tags[-1]  # so that every label occurs
    return tags


ROWS: dict[str, list[dict[str, Any]]] = {
    "ner": [{"tokens": _words(s), "ner_tags": _tags(_words(s))} for s in SENTENCES],
    "question_answering": [_question(s, n) for n, s in enumerate(SENTENCES)],
    "text_classification": [
        {"text": s, "text_pair": o, "label": CLASSES[n % 2]}
        for n, (s, o) in enumerate(zip(SENTENCES, OTHERS))
    ],
    "summarization": [{"source": s, "target": " ".join(s.split()[:4])} for s in SENTENCES],
    "translation": [{"source": s, "target": o} for s, o in zip(SENTENCES, OTHERS)],
    "language_modelling": [{"text": s} for s in SENTENCES],
}
ROWS["generative_question_answering"] = ROWS["question_answering"]

TEXTS = [
    *SENTENCES,
    *OTHERS,
    "Which name does line 0 1 2 3 4 5 hold?",
    "question: context: answer: => TL;DR:",
]
