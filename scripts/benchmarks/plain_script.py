"""A plain script, one process per arm and seed: load, tokenize, train with Trainer, evaluate.

    python -P scripts/benchmarks/plain_script.py ner|wnut17|qa [--train N] [--validation N] [--epochs N]
        [--seed S] [--grouped] [--first-step]

Written from the documented behaviour of the official example scripts: their imports, `datasets.map` for the
tokens, their batch sizes, learning rates and padding (questions and contexts to 384 tokens; `--grouped` asks
Trainer for batches of like length instead). Prints one line of JSON: scores, and the CPU seconds up to the
first step and of the whole process. `--first-step` stops there.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import evaluate  # noqa: F401 - the official scripts import it, which costs time
import numpy as np
import torch
from datasets import Dataset, load_dataset
from seqeval.metrics import f1_score
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

CONVERTED = "refs/convert/parquet"
BTC, WNUT17, SQUAD = "GateNLP/broad_twitter_corpus", "leondz/wnut_17", "rajpurkar/squad"
REVISIONS = {BTC: CONVERTED, WNUT17: CONVERTED, SQUAD: "7b6d24c440a36b6815f21b70d25016731768db1f"}
SPLITS = {SQUAD: ("train[:90%]", "train[90%:]")}  # of the others: train and validation
IGNORED = -100
ENTITIES = {
    BTC: ("LOC", "ORG", "PER"),
    WNUT17: ("corporation", "creative-work", "group", "location", "person", "product"),
}
MAX_LEN, STRIDE, LONGEST_ANSWER = 384, 128, 30


class FirstStep(TrainerCallback):
    """Measures the CPU seconds of this process up to its first step; may end it there."""

    def __init__(self, stop: bool) -> None:
        self.seconds, self._stop = 0.0, stop

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.seconds = self.seconds or time.process_time()
        if self._stop:
            print(json.dumps({"first_step_cpu_seconds": self.seconds}))
            raise SystemExit


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=JOBS)
    parser.add_argument("--train", type=int, help="number of examples; default all")
    parser.add_argument("--validation", type=int)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--grouped", action="store_true")
    parser.add_argument("--first-step", action="store_true")
    options = parser.parse_args()
    set_seed(options.seed)
    first = FirstStep(options.first_step)
    job = JOBS[options.task]
    with tempfile.TemporaryDirectory() as folder:
        scores = job(options, folder, first)
    seconds = {"first_step_cpu_seconds": first.seconds, "cpu_seconds": time.process_time()}
    print(json.dumps({**seconds, **scores}))


def in_mirror(kind: str, name: str) -> str:
    """Return the folder of a repository in the mirror, where there is one, else its name on the Hub."""
    root = os.environ.get("ATTNLAB_MIRROR")
    return str(Path(root, kind, name)) if root else name


MODEL = in_mirror("models", "sentence-transformers/all-MiniLM-L6-v2")


def read(name: str, options: argparse.Namespace, cache: str) -> tuple[Dataset, Dataset]:
    source = in_mirror("datasets", name)
    revision = REVISIONS[name] if source == name else None
    names = SPLITS.get(name, ("train", "validation"))
    splits = [load_dataset(source, split=split, revision=revision, cache_dir=cache) for split in names]
    counts = (options.train, options.validation)
    train, validation = (rows.select(range(count or len(rows))) for rows, count in zip(splits, counts))
    return train, validation


def arguments(folder: str, options: argparse.Namespace, **changed: Any) -> TrainingArguments:
    return TrainingArguments(
        output_dir=folder,
        seed=options.seed,
        num_train_epochs=options.epochs,
        train_sampling_strategy="group_by_length" if options.grouped else "random",
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **changed,
    )


def predict(trainer: Trainer, scored: Dataset) -> Any:
    """Return logits in the order of the rows: grouping would also reorder the evaluated examples."""
    trainer.args.train_sampling_strategy = "random"
    return trainer.predict(scored)


def named_entities(data: str, options: argparse.Namespace, folder: str, first: FirstStep) -> dict[str, float]:
    train, validation = read(data, options, folder)
    tokenizer = AutoTokenizer.from_pretrained(MODEL, use_fast=True)
    names = ["O", *(f"{place}-{kind}" for place in "BI" for kind in ENTITIES[data])]
    number = {label: place for place, label in enumerate(names)}
    stored = getattr(train.features["ner_tags"].feature, "names", None)  # where tags are numbers

    def features(rows: dict[str, list]) -> dict[str, list]:
        found = tokenizer(rows["tokens"], is_split_into_words=True, truncation=True)
        found["labels"] = []
        for row, tags in enumerate(rows["ner_tags"]):
            words = found.word_ids(row)
            starts = [word is not None and word != before for word, before in zip(words, [None, *words])]
            labels = [
                number[_tag(tags[word], stored)] if start else IGNORED for word, start in zip(words, starts)
            ]
            found["labels"].append(labels)
        return found

    sets = [
        part.map(features, batched=True, remove_columns=part.column_names) for part in (train, validation)
    ]
    trainer = Trainer(
        model=AutoModelForTokenClassification.from_pretrained(
            MODEL, num_labels=len(names), dtype=torch.float32
        ),
        args=arguments(folder, options, per_device_train_batch_size=8),
        train_dataset=sets[0],
        eval_dataset=sets[1],
        data_collator=DataCollatorForTokenClassification(tokenizer),
        callbacks=[first],
    )
    trainer.train()
    logits, labels, _ = predict(trainer, sets[1])
    keep = [row != IGNORED for row in labels]
    gold = [[names[label] for label in row[k]] for row, k in zip(labels, keep)]
    predicted = [[names[label] for label in row[k]] for row, k in zip(logits.argmax(-1), keep)]
    return {"f1": 100 * f1_score(gold, predicted)}


def _tag(tag: Any, stored: list[str] | None) -> str:
    return stored[tag] if stored else tag


def question_answering(options: argparse.Namespace, folder: str, first: FirstStep) -> dict[str, float]:
    train, validation = read(SQUAD, options, folder)
    tokenizer = AutoTokenizer.from_pretrained(MODEL, use_fast=True)

    def windows(rows: dict[str, list]) -> Any:
        return tokenizer(
            [question.lstrip() for question in rows["question"]],
            rows["context"],
            truncation="only_second",
            max_length=MAX_LEN,
            stride=STRIDE,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding=False if options.grouped else "max_length",
        )

    def train_features(rows: dict[str, list]) -> dict[str, list]:
        found = windows(rows)
        examples, offsets = found.pop("overflow_to_sample_mapping"), found.pop("offset_mapping")
        places = [
            _place(rows["answers"][e], o, found.sequence_ids(i))
            for i, (e, o) in enumerate(zip(examples, offsets))
        ]
        found["start_positions"], found["end_positions"] = map(list, zip(*places))
        return found

    def validation_features(rows: dict[str, list]) -> dict[str, list]:
        found = windows(rows)
        found["example"] = [rows["id"][example] for example in found.pop("overflow_to_sample_mapping")]
        found["offset_mapping"] = [
            [span if side == 1 else None for span, side in zip(spans, found.sequence_ids(row))]
            for row, spans in enumerate(found["offset_mapping"])
        ]
        return found

    learned = train.map(train_features, batched=True, remove_columns=train.column_names)
    scored = validation.map(validation_features, batched=True, remove_columns=validation.column_names)
    trainer = Trainer(
        model=AutoModelForQuestionAnswering.from_pretrained(MODEL, dtype=torch.float32),
        args=arguments(folder, options, per_device_train_batch_size=12, learning_rate=3e-5),
        train_dataset=learned,
        data_collator=DataCollatorWithPadding(tokenizer) if options.grouped else default_data_collator,
        callbacks=[first],
    )
    trainer.train()
    (starts, ends), _, _ = predict(trainer, scored.remove_columns(["example", "offset_mapping"]))
    answers: dict[str, tuple[float, str]] = {}
    contexts = dict(zip(validation["id"], validation["context"]))
    for row, (start, end) in enumerate(zip(starts, ends)):
        name = scored[row]["example"]
        best = _best_span(start, end, scored[row]["offset_mapping"], contexts[name])
        answers[name] = max(answers.get(name, (-np.inf, "")), best)
    predicted = [answers[name][1] for name in validation["id"]]
    gold = [answer["text"] for answer in validation["answers"]]
    from pipelines.metrics.squad import Squad  # imported here: not part of the measured time

    return {measure: Squad(measure).library_score(predicted, gold) for measure in ("exact_match", "f1")}


def _place(answers: dict[str, list], offsets: list, sides: list) -> tuple[int, int]:
    """Return first and last token of the answer; 0 where the window does not contain all of it."""
    begin = answers["answer_start"][0]
    end = begin + len(answers["text"][0])
    inside = [
        t
        for t, (span, side) in enumerate(zip(offsets, sides))
        if side == 1 and span[0] < end and span[1] > begin
    ]
    whole = inside and offsets[inside[0]][0] <= begin and offsets[inside[-1]][1] >= end
    return (inside[0], inside[-1]) if whole else (0, 0)


def _best_span(start: np.ndarray, end: np.ndarray, offsets: list, context: str) -> tuple[float, str]:
    best = (-np.inf, "")
    start, end = start[: len(offsets)], end[: len(offsets)]  # Trainer pads batches of different lengths
    for first in np.argsort(start)[-20:]:
        for last in np.argsort(end)[-20:]:
            if offsets[first] and offsets[last] and first <= last < first + LONGEST_ANSWER:
                score = float(start[first] + end[last])
                best = max(best, (score, context[offsets[first][0] : offsets[last][1]]))
    return best


JOBS: dict[str, Callable[[argparse.Namespace, str, FirstStep], dict[str, float]]] = {
    "ner": partial(named_entities, BTC),
    "wnut17": partial(named_entities, WNUT17),
    "qa": question_answering,
}

if __name__ == "__main__":
    main()
