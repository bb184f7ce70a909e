"""Every damage of a file that is read back is one sentence that names it and says what to do."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
from typing_extensions import TypedDict

from pipelines.data.decode import read_bytes
from pipelines.errors import UserError
from pipelines.storage import reading, run_files


class Count(TypedDict):
    """An object with one entry."""

    count: int


READERS = {
    "json": lambda path: reading.json_object(path, "make it again", Count),
    "lines": lambda path: reading.json_lines(path, "make it again", Count),
    "yaml": lambda path: reading.yaml_mapping(path, "make it again"),
}


def refusal(read, path: Path) -> str:
    with pytest.raises(UserError) as refused:
        read(path)
    sentence = refused.value.sentence()
    assert sentence.startswith(str(path)), sentence
    assert sentence.endswith("; make it again."), sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("reader", READERS)
def test_what_is_there_comes_back(tmp_path, reader):
    path = tmp_path / "file"
    path.write_text('{"count": 3}\n')
    found = READERS[reader](path)
    assert found == ([{"count": 3}] if reader == "lines" else {"count": 3})


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", [b"{", b"null", b"[]", b"7", b'"text"', b"\xff\xfe{}"])
def test_what_is_no_such_object_is_refused(tmp_path, reader, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    refusal(READERS[reader], path)


@pytest.mark.parametrize("reader", READERS)
def test_missing_is_not_a_dangling_link_and_neither_is_a_folder(tmp_path, reader):
    path = tmp_path / "file"
    assert "is missing" in refusal(READERS[reader], path)
    path.symlink_to(tmp_path / "nowhere")
    assert "is a link to a file that is missing" in refusal(READERS[reader], path)
    path.unlink()
    path.mkdir()
    assert "is a folder, not a file" in refusal(READERS[reader], path)


def test_nothing_is_none_only_where_nothing_has_the_name(tmp_path):
    path = tmp_path / "file"
    assert reading.json_object_if_there(path, "make it again") is None
    path.symlink_to(tmp_path / "nowhere")
    refusal(lambda one: reading.json_object_if_there(one, "make it again"), path)


@pytest.mark.parametrize("stored", [{}, {"count": "3"}, {"count": None}, {"count": 1.5}])
def test_an_entry_of_another_type_is_named(tmp_path, stored):
    path = tmp_path / "file"
    path.write_text(json.dumps(stored))
    assert "the field count is" in refusal(READERS["json"], path)


@pytest.mark.parametrize("levels", [reading.MOST_LEVELS + 1, 100_000])
@pytest.mark.parametrize("reader", READERS)
def test_a_value_too_deep_to_walk_through_is_refused(tmp_path, reader, levels):
    if reader == "yaml" and levels > 1000:
        levels = 900  # its reader is slow
    path = tmp_path / "file"
    path.write_text('{"count": ' + "[" * levels + "]" * levels + "}")
    assert "is damaged" in refusal(READERS[reader], path)


def test_aliases_cannot_make_a_short_file_endless(tmp_path):
    path = tmp_path / "file"
    names = [chr(ord("a") + number) for number in range(20)]
    lines = ["a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in pairwise(names)]
    path.write_text("\n".join(lines))
    assert "is damaged" in refusal(READERS["yaml"], path)


def test_only_a_log_may_end_in_half_a_line(tmp_path):
    path = tmp_path / "file"
    path.write_text('{"count": 1}\n{"count": 2}\n{"cou')
    assert [one["count"] for one in reading.json_lines(path, "x", Count, cut=True)] == [1, 2]
    with pytest.raises(UserError, match="line 3: is damaged"):
        reading.json_lines(path, "x", Count)
    path.write_text('{"count": 1}\n{"cou\n{"count": 3}\n')
    with pytest.raises(UserError, match="line 2: is damaged"):
        reading.json_lines(path, "x", Count, cut=True)


def test_settings_that_are_there_twice_are_refused_at_every_level(tmp_path):
    path = tmp_path / "file"
    for text in ("count: 3\ncount: 3\n", "all:\n  count: 3\n  count: 4\n", "all: [{count: 3, count: 3}]\n"):
        path.write_text(text)
        assert "with one key twice" in refusal(READERS["yaml"], path)


@pytest.mark.parametrize("reader", READERS)
def test_what_may_have_no_end_is_not_read(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        assert "is a pipe or a device, not a file" in refusal(READERS[reader], tmp_path / name)
        listed = {"files": {name: "0" * 64}}
        assert list(run_files.differences(tmp_path, listed)) == [(name, "is a pipe or a device, not a file")]
    with pytest.raises(UserError, match="zero: is a device, not a file"):
        read_bytes(tmp_path / "zero")
