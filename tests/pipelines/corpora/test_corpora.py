"""Generated corpora: the same everywhere, apart by split, and decided by context alone."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections import Counter, defaultdict
from importlib import import_module

import numpy as np
import pytest

from pipelines.corpora import ner
from pipelines.corpora._distinct import MOST_DRAWS, SHARES, distinct
from pipelines.errors import UserError
from pipelines.metrics.entity_f1 import EntityF1, strict_entities
from pipelines.registry import catalog

TRAIN, TEST = ner.generate(2000, 0, "train"), ner.generate(400, 0, "test")


def text(row: dict) -> str:
    return " ".join(row["tokens"])


def f1(predictions: list) -> float:
    metric = EntityF1()
    return float(metric.score(sum(metric.statistics(p, row["tags"]) for p, row in zip(predictions, TEST))))


@pytest.mark.parametrize("name", catalog.names(catalog.CORPUS))
def test_every_corpus_is_deterministic_grows_at_its_end_and_keeps_splits_apart(name):
    generate = import_module(f"pipelines.corpora.{name}").generate
    assert list(inspect.signature(generate).parameters)[:3] == ["num_examples", "seed", "split"]
    rows = {split: generate(40, 5, split) for split in ("train", "validation", "test")}
    assert generate(40, 5, "train") == rows["train"]
    assert generate(11, 5, "train") == rows["train"][:11]
    assert generate(40, 6, "train") != rows["train"]
    seen = [repr(row) for split in rows.values() for row in split]
    assert len(set(seen)) == len(seen) == 120


def test_the_corpus_is_the_same_on_every_machine_and_python():
    rows = json.dumps(ner.generate(50, 7, "train")).encode()
    assert (
        hashlib.sha256(rows).hexdigest() == "6c9c619ac5c5a9abd667ecba5cebe5391fd8246e42edc1c41490c9057625c629"
    )


def test_sentences_are_strict_iob2_of_five_to_thirty_words():
    for row in [*TRAIN, *TEST]:
        assert len(row["tokens"]) == len(row["tags"])
        assert 5 <= len(row["tokens"]) <= 30
        starts = sum(tag.startswith("B-") for tag in row["tags"])
        assert len(strict_entities(row["tags"])) == starts >= 1
        assert set(row["tags"]) <= {"O"} | {f"{place}-{kind}" for place in "BI" for kind in ner.TYPES}


def test_no_sentence_stands_in_two_splits():
    assert not {text(row) for row in ner.generate(3000, 0, "train")} & {
        text(row) for split in ("validation", "test") for row in ner.generate(500, 0, split)
    }


def test_names_are_of_every_type_and_some_are_new_in_test():
    types = defaultdict(set)
    for row in TRAIN:
        for word, tag in zip(row["tokens"], row["tags"]):
            types[word].add(tag[2:])
    assert all(types[name] == set(ner.TYPES) for name in ner.NAMES)
    assert not types.keys() & set(ner.UNSEEN_NAMES)
    heads = [word for row in TEST for word in row["tokens"] if word in ner.NAMES + ner.UNSEEN_NAMES]
    assert 0.1 < sum(word in ner.UNSEEN_NAMES for word in heads) / len(heads) < 0.3


def majority() -> list[list[str]]:
    """The most frequent tag of each word in train."""
    counts = defaultdict(Counter)
    for row in TRAIN:
        for word, tag in zip(row["tokens"], row["tags"]):
            counts[word][tag] += 1
    best = {word: count.most_common(1)[0][0] for word, count in counts.items()}
    return [[best.get(word, "O") for word in row["tokens"]] for row in TEST]


def by_context() -> list[list[str]]:
    """The true spans, typed by the last telling word before, else by the next one after."""
    before = {word: kind for kind, words in ner.BEFORE.items() for word in words}
    after = {word: kind for kind, words in ner.AFTER.items() for word in words}
    predictions = []
    for row in TEST:
        told, tags, waiting = None, [], []
        for word, tag in zip(row["tokens"], row["tags"]):
            if word in after:
                for place in waiting:
                    tags[place] += after[word]
                waiting = []
            told = before.get(word, told)
            tags.append("O" if tag == "O" else tag[:2] + (told or ""))
            if tag != "O" and told is None:
                waiting.append(len(tags) - 1)
            if tag == "O" and len(tags) > 1 and tags[-2] != "O":
                told = None
        predictions.append(tags)
    return predictions


def test_words_alone_do_not_tell_the_type_and_context_does():
    assert 30 < f1(majority()) < 40
    assert 96 < f1(by_context()) < 100  # the noise keeps it from 100


def test_a_small_model_from_scratch_learns_the_context():
    import torch
    from transformers import BertConfig, BertForTokenClassification

    from pipelines.models.tokenizer import train_tokenizer
    from pipelines.tasks.ner import Ner

    rows = [row | {"id": str(number)} for number, row in enumerate(TRAIN)]
    task = Ner()
    task.fit({"train": rows})
    task.bind(train_tokenizer("encoder", task.texts(rows), 1000), "encoder")
    features = task.prepare(rows)
    torch.manual_seed(1)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    config = BertConfig(vocab_size=len(task.processor), **sizes, **task.model_options())
    model = BertForTokenClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    order = np.random.default_rng(1)
    for rate in (2e-3, 1.5e-3, 7e-4):
        for part in order.permutation(len(features)).reshape(-1, 16):
            batch = task.collate([features[index] for index in part])
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            (task.loss(model, batch) / (batch["labels"] >= 0).sum()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    model.eval()
    tests = [row | {"id": str(number)} for number, row in enumerate(TEST)]
    with torch.no_grad():
        raws = task.predict(model, task.collate(task.prepare(tests)))
    score = f1([task.assemble(row, [raw]) for row, raw in zip(tests, raws)])
    assert f1(majority()) + 10 < score < 97, score


def test_a_corpus_without_more_texts_says_so_instead_of_drawing_on():
    texts = [str(number) for number in range(300)]
    draws = ((texts[number % 300], number) for number in range(10 * MOST_DRAWS))
    low, high = SHARES["validation"]
    own = [n for n, text in enumerate(texts) if low <= hashlib.sha256(text.encode()).digest()[0] < high]
    found = distinct(draws, "validation")
    assert [next(found) for _ in own] == own
    with pytest.raises(UserError, match=f"generated.validation: .* only {len(own)} different texts"):
        next(found)
