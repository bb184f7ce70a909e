"""The generated texts are what they say, and the figures to compare with are those in their docstrings."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from itertools import pairwise

import pytest

from pipelines.corpora import language_modelling, summarization, translation
from pipelines.metrics.bleu import Bleu
from pipelines.metrics.chrf import Chrf
from pipelines.metrics.rouge import Rouge


def near(value: float) -> object:
    return pytest.approx(value, abs=0.06)


@pytest.mark.parametrize(
    ("corpus", "expected"),
    [
        (translation, "1f807c0d3a48260c"),
        (summarization, "12f2b5f83686d586"),
        (language_modelling, "f1350ba57b6b8fbe"),
    ],
)
def test_the_corpus_is_the_same_on_every_machine_and_python(corpus, expected):
    rows = json.dumps(corpus.generate(50, 7, "train")).encode()
    assert hashlib.sha256(rows).hexdigest()[:16] == expected


# ---- translation


def word_by_word(source: str) -> str:
    """English order, masculine subjects everywhere."""
    for english, other in translation.TIMES.items():
        source = source.replace(english, other)
    words = {english: f"{stem}us" for english, (stem, _) in translation.NOUNS.items()}
    words |= {english: f"{stem}us" for english, stem in translation.ADJECTIVES.items()}
    words |= {english: f"{stem}t" for english, stem in translation.VERBS.items()}
    words |= {"the": "lo", "a": "un"}
    return re.sub(r"\w+", lambda word: words.get(word[0], word[0]), source)


def test_translating_needs_order_and_agreement():
    rows = translation.generate(400, 0, "test")
    targets = [row["target"] for row in rows]
    copied = [row["source"] for row in rows]
    replaced = [word_by_word(row["source"]) for row in rows]
    assert Bleu().library_score(copied, targets) == near(0.08)
    assert Chrf().library_score(copied, targets) == near(13.45)
    assert Bleu().library_score(replaced, targets) == near(0.49)
    assert Chrf().library_score(replaced, targets) == near(42.28)


def test_the_example_of_the_docstring_is_a_translation():
    vocabulary = {word for row in translation.generate(2000, 0, "train") for word in row["target"].split()}
    assert {"odie", "lo", "regus", "vetus", "Clara", "amat."} <= vocabulary


def test_articles_nouns_and_adjectives_agree():
    genders = dict(translation.NOUNS.values())
    for row in translation.generate(300, 3, "train"):
        for article, noun, other in zip(*(row["target"].rstrip(".").split()[n:] for n in range(3))):
            if article in ("lo", "la", "un", "una"):
                stem = next(s for s in sorted(genders, key=len, reverse=True) if noun.startswith(s))
                assert (article in ("la", "una")) == (genders[stem] == "f")
                ending = noun.removeprefix(stem)
                if other.rstrip("usam") in translation.ADJECTIVES.values():
                    assert other.endswith(ending)


# ---- summarization


def first(text: str, count: int) -> str:
    return " ".join(re.split(r"(?<=\.) ", text)[:count])


def test_neither_the_lead_nor_one_summary_for_all_will_do():
    rows = summarization.generate(400, 0, "test")
    train = summarization.generate(2000, 0, "train")
    slots = zip(*(re.split(r": |, | of ", row["target"]) for row in train))
    constant = "{}: {}, {} of {}".format(*(Counter(slot).most_common(1)[0][0] for slot in slots))
    targets = [row["target"] for row in rows]
    leads = [[first(row["source"], count) for row in rows] for count in (1, 3)]
    for predictions, expected in zip(
        (*leads, [constant] * 400), ((8.49, 8.49), (17.84, 16.48), (28.25, 28.25))
    ):
        found = [Rouge(measure).library_score(predictions, targets) for measure in ("rouge1", "rougeL")]
        assert found == near(list(expected))


def test_the_summary_is_that_of_one_sentence_which_is_never_the_first():
    for row in summarization.generate(300, 1, "train"):
        day, event, place, town = re.split(r": |, | of ", row["target"])
        sentences = re.split(r"(?<=\.) ", row["source"])
        assert 3 <= len(sentences) <= 6
        said = [s for s in sentences if any(news in s for news in summarization.EVENTS)]
        assert len(said) == 1
        assert said[0] != sentences[0]
        assert all(word in said[0] for word in (place, town, day))
        [news] = [news for news in summarization.EVENTS if news in said[0]]
        assert summarization.EVENTS[news] == event


# ---- language modelling


def test_words_by_frequency_and_by_their_neighbour_cost_what_is_said():
    train, test = (
        [[*row["text"].split(), ""] for row in language_modelling.generate(count, 0, split)]
        for count, split in ((2000, "train"), (400, "test"))
    )
    words = Counter(word for text in train for word in text)
    pairs = Counter(pair for text in train for pair in pairwise(["", *text]))
    before = Counter(word for text in train for word in ["", *text[:-1]])
    num_bytes = sum(len(" ".join(text[:-1]).encode()) for text in test)
    unigram = -sum(math.log2(words[word] / words.total()) for text in test for word in text)
    bigram = -sum(math.log2(pairs[pair] / before[pair[0]]) for text in test for pair in pairwise(["", *text]))
    assert unigram / num_bytes == pytest.approx(1.355, abs=0.005)
    assert bigram / num_bytes == pytest.approx(0.3385, abs=0.005)


def test_pronouns_and_past_forms_follow_from_what_was_said():
    people = language_modelling.PEOPLE
    for row in language_modelling.generate(200, 2, "train"):
        for wish, deed in re.findall(r"([^.]+) \. so ([^.]+) \. then [^.]+ \.", row["text"]):
            who = next(person for person in people if f"{person} " in wish)
            action = next(a for a in language_modelling.ACTIONS if f" {a} " in wish)
            pronoun, owner = people[who]
            assert deed.startswith(f"{pronoun} {language_modelling.ACTIONS[action][0]} ")
            assert f"with {owner} own hands" in deed
