"""Features: what comes out of the file is what went in, prepared once for everybody."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from pipelines.data import features
from pipelines.data.counts import describe_cuts
from pipelines.data.features import Features, build, key
from pipelines.errors import RunFailed, UserError
from pipelines.tasks.base import Task


class Spelling(Task):
    """One feature per word of a text, of odd kinds: lists of numbers, empty lists, text, floats, nothing."""

    head, primary, metric_names = "none", "none", ()

    def __init__(self, log: Path | None = None, slow: float = 0.0) -> None:
        self.log, self.slow, self.counts = log, slow, Counter()

    def prepare(self, examples: Any) -> list[dict]:
        if self.log:
            with open(self.log, "a") as file:
                file.write("prepared\n")
        time.sleep(self.slow)
        self.counts["words"] += sum(len(example["text"].split()) for example in examples)
        return [self.feature(example, word) for example in examples for word in example["text"].split()]

    def feature(self, example: dict, word: str) -> dict:
        ids = [ord(letter) for letter in word]
        return {
            "example_id": example["id"],
            "input_ids": ids,
            "positions": ids[3:],
            "weight": len(word) / 7,
            "word": word,
            "spans": [[1, 2], []] if len(word) > 3 else [],
            "note": None if word == "none" else word.upper(),
            "num_targets": len(word) // 2,
        }

    collate = loss = predict = assemble = metric = reference = lambda self, *args: None


EXAMPLES = [{"id": f"e{n}", "text": "a bcd efghij none " + "xy " * (n % 4)} for n in range(41)]


def expected(task: Spelling) -> list[dict]:
    return [task.feature(example, word) for example in EXAMPLES for word in example["text"].split()]


@pytest.mark.parametrize("chunk", [1, 7, 2000])
@pytest.mark.parametrize("cached", [True, False])
def test_what_comes_out_is_what_was_prepared(tmp_path, monkeypatch, chunk, cached):
    monkeypatch.setattr(features, "CHUNK_EXAMPLES", chunk)
    task = Spelling()
    found = build(task, EXAMPLES, "train", tmp_path if cached else None, "k" * 64)
    again = build(task, EXAMPLES, "train", tmp_path if cached else None, "k" * 64)
    for read in (found, again):
        assert list(read) == expected(task)
        assert read[-1] == expected(task)[-1]
        assert read[3:6] == expected(task)[3:6]
        assert read.counts == {"words": len(expected(task))}
    assert isinstance(found[0]["input_ids"][0], int)
    with pytest.raises(IndexError):
        found[len(found)]


def test_lengths_and_examples_are_arrays():
    task = Spelling()
    found = build(task, EXAMPLES, "train", None, "")
    rows = expected(task)
    assert found.lengths.tolist() == [len(row["input_ids"]) for row in rows]
    assert found.num_targets.tolist() == [row["num_targets"] for row in rows]
    assert [EXAMPLES[index]["id"] for index in found.example_index] == [row["example_id"] for row in rows]
    assert found.feature_counts(41).tolist() == [4 + n % 4 for n in range(41)]
    assert found.lengths.dtype == np.int64


def test_the_file_is_mapped_and_not_prepared_again(tmp_path):
    log = tmp_path / "log"
    task = Spelling(log)
    for _ in range(3):
        build(task, EXAMPLES, "train", tmp_path / "cache", "k" * 64)
    assert log.read_text() == "prepared\n"
    build(task, EXAMPLES, "train", tmp_path / "cache", "other")
    build(task, EXAMPLES, "validation", tmp_path / "cache", "k" * 64)
    assert log.read_text() == "prepared\n" * 3


def test_a_damaged_file_is_prepared_again(tmp_path):
    build(Spelling(), EXAMPLES, "train", tmp_path, "k" * 64)
    [file] = tmp_path.glob("*.arrow")
    for damage in (b"", file.read_bytes()[:-100], b"x" * 1000):
        file.write_bytes(damage)
        assert list(build(Spelling(), EXAMPLES, "train", tmp_path, "k" * 64)) == expected(Spelling())
    assert not list(tmp_path.glob("*.tmp"))


def _build(log: Path, cache: Path, results: Any) -> None:
    found = build(Spelling(log, slow=0.5), EXAMPLES, "train", cache, "k" * 64)
    results.put(len(found))


def test_processes_that_want_the_same_features_prepare_them_once(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    log = tmp_path / "log"
    processes = [context.Process(target=_build, args=(log, tmp_path / "cache", results)) for _ in range(4)]
    for process in processes:
        process.start()
    sizes = {results.get(timeout=30) for _ in processes}
    for process in processes:
        process.join()
    assert sizes == {len(expected(Spelling()))}
    assert log.read_text() == "prepared\n"


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="features cannot be cached"):
        build(Spelling(), EXAMPLES, "train", tmp_path / "file" / "cache", "k")


def test_a_full_disk_is_a_failed_run_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features.os, "replace", full)
    with pytest.raises(RunFailed, match="the disk is full, so features cannot be cached"):
        build(Spelling(), EXAMPLES, "train", tmp_path, "k")
    assert not list(tmp_path.glob("*.tmp"))


def test_what_a_kill_left_of_the_same_features_is_removed(tmp_path):
    left = tmp_path / ".train-k.arrow.0a1b2c3d.tmp"
    left.mkdir()
    (left / "0.arrow").write_text("half")
    for path in (left / "0.arrow", left):
        os.utime(path, (time.time() - 5,) * 2)
    build(Spelling(), EXAMPLES, "train", tmp_path, "k")
    assert not left.exists()


def test_a_task_that_forgets_an_example_is_a_fault_of_ours():
    class Forgetful(Spelling):
        def prepare(self, examples: Any) -> list[dict]:
            return super().prepare(examples[1:])

    with pytest.raises(RuntimeError, match="every example at least one feature"):
        build(Forgetful(), EXAMPLES, "train", None, "")


# ---- what the features depend on
class Tokenizer:
    """The parts of a fast tokenizer that a key reads."""

    model_max_length, pad_token_id = 512, 0

    def __init__(self, vocabulary: str = "a", padding: str = "null") -> None:
        called, is_ = f'"truncation":null,"padding":{padding}', f'"added_tokens":[],"model":"{vocabulary}"'
        self.text = f'{{"version":"1.0",{called},{is_}}}'  # in the order of the tokenizers library
        self.backend_tokenizer = self

    def to_str(self) -> str:
        return self.text


def keyed(task: Task | None = None, tokenizer: Any = None, **changes: Any) -> str:
    task = task or Spelling()
    task.processor, task.family = tokenizer or Tokenizer(), changes.pop("family", "encoder")
    return key(task, **{"name": "spelling", "options": {"max_len": 9}, "data_hash": "d"} | changes)


def test_the_key_holds_all_that_decides_the_features():
    class Fitted(Spelling):
        def state(self) -> dict:
            return {"labels": ["O"]}

    plain = keyed()
    changed = [
        keyed(data_hash="e"),
        keyed(options={"max_len": 8}),
        keyed(name="other"),
        keyed(family="decoder"),
        keyed(tokenizer=Tokenizer("b")),
        keyed(Fitted()),
    ]
    assert len({plain, *changed}) == 7
    assert keyed() == plain


def test_the_key_forgets_how_the_tokenizer_was_last_called():
    assert keyed(tokenizer=Tokenizer(padding='{"length": 128}')) == keyed()


def test_a_tokenizer_says_how_it_was_last_called_before_what_it_is():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(WordLevel({"a": 0}, "a")))
    tokenizer.pad_token = "a"
    before = keyed(tokenizer=tokenizer)
    tokenizer(["a a"], truncation=True, max_length=1, padding="max_length")
    assert keyed(tokenizer=tokenizer) == before
    tokenizer.add_tokens(["b"])
    assert keyed(tokenizer=tokenizer) != before


def test_the_key_changes_with_the_sources_of_the_task(monkeypatch):
    before = keyed()
    monkeypatch.setattr(features, "fingerprints", lambda module: {module: "another"})
    assert keyed() != before


def test_reading_is_fast():
    """One feature costs microseconds: an epoch over 100,000 must not be felt."""
    task = Spelling()
    task.feature = lambda example, word: {
        "example_id": example["id"],
        "input_ids": list(range(128)),
        "num_targets": 1,
    }
    found: Features = build(task, EXAMPLES, "train", None, "")
    begun = time.perf_counter()
    for _ in range(10):
        list(found)
    assert (time.perf_counter() - begun) / (10 * len(found)) < 1e-4


def test_what_was_cut_is_said_and_what_is_a_total_is_not():
    counts = {
        "examples": 1287,
        "words": 9000,
        "sources_cut": 1203,
        "targets_cut": 0,
        "words_cut": 2,
        "examples_in_windows": 3,
    }
    assert describe_cuts(counts) == "; 1,203 sources cut, 2 words cut"
    assert describe_cuts({"examples": 5, "sources_cut": 0}) == describe_cuts({}) == ""
