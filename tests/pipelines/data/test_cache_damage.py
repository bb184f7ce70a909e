"""A damaged file of the cache is reported, set aside and made again; no damaged feature is ever read."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from pipelines.data.features import build
from pipelines.tasks.base import Task


class Letters(Task):
    """One feature per text: the numbers of its letters."""

    head, primary, metric_names = "none", "none", ()

    def __init__(self) -> None:
        self.counts, self.prepared = Counter(), 0

    def prepare(self, examples):
        self.prepared += 1
        return [
            {"example_id": one["id"], "input_ids": list(map(ord, one["text"])), "num_targets": 1}
            for one in examples
        ]

    collate = loss = predict = assemble = metric = reference = lambda self, *args: None


EXAMPLES = [{"id": str(number), "text": "abc" * (1 + number % 5)} for number in range(30)]


def read(cache: Path) -> tuple[list[dict], int]:
    """Return the features and how often they were prepared for it."""
    task = Letters()
    return list(build(task, EXAMPLES, "train", cache, "k" * 64)), task.prepared


@pytest.fixture
def cache(tmp_path) -> Path:
    right, prepared = read(tmp_path)
    assert (len(right), prepared) == (30, 1)
    assert read(tmp_path) == (right, 0)
    return tmp_path


def cached(cache: Path) -> Path:
    [file] = cache.glob("*.arrow")
    return file


@pytest.mark.parametrize("share", [step / 23 for step in range(23)])
def test_one_flipped_bit_is_never_read(cache, capsys, share):
    right = read(cache)[0]
    file = cached(cache)
    content = bytearray(file.read_bytes())
    content[int(share * len(content))] ^= 16
    file.write_bytes(content)
    assert read(cache) == (right, 1)
    said = capsys.readouterr().err
    assert f"{file}: is not as it was written" in said
    [aside] = cache.glob("*.arrow.invalid-*")
    assert aside.name in said
    assert read(cache) == (right, 0)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def a_dangling_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


@pytest.mark.parametrize("suffix", [".arrow", ".sha256"])
@pytest.mark.parametrize("damage", [os.unlink, emptied, cut, a_folder, a_dangling_link])
def test_whatever_stands_in_the_place_of_a_file_it_is_made_again(cache, damage, suffix):
    right = read(cache)[0]
    damage(cached(cache).with_suffix(suffix))
    assert read(cache) == (right, 1)
    assert read(cache) == (right, 0)
