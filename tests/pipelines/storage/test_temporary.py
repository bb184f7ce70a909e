"""What a kill leaves of a half-written file is removed at the next start, by its name and its age."""

from __future__ import annotations

import os
import time

import pytest

from pipelines.storage import atomic, temporary


def left(path, seconds):
    """A temporary file that was last changed so many seconds ago."""
    made = temporary.beside(path)
    made.write_bytes(b"half")
    os.utime(made, (time.time() - seconds,) * 2)
    return made


def test_a_kill_while_writing_leaves_the_old_file_and_what_is_swept(tmp_path, monkeypatch):
    path = tmp_path / "predictions.dev.jsonl"
    atomic.write_bytes(path, b"old")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    temporary.sweep(tmp_path, 0)
    assert list(tmp_path.iterdir()) == [path]


def test_only_old_files_of_such_names_are_swept(tmp_path):
    kept = [left(tmp_path / "results.json", 5), tmp_path / ".mine.tmp", tmp_path / ".mine.0A1B2C3D.tmp"]
    kept += [tmp_path / "results.json.0a1b2c3d.tmp", tmp_path / ".link.0a1b2c3d.tmp"]
    for path in kept[1:-1]:
        path.write_text("mine")
        os.utime(path, (0, 0))
    kept[-1].symlink_to(tmp_path)
    old = left(tmp_path / "results.json", 100)
    temporary.sweep(tmp_path, 60)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert not old.exists()


def test_writing_a_file_removes_what_killed_writes_of_it_have_left(tmp_path):
    path = tmp_path / "answers.jsonl"
    left(path, 100)
    kept = [left(path, 5), left(tmp_path / "others.jsonl", 100)]
    atomic.write_bytes(path, b"new")
    assert sorted(tmp_path.iterdir()) == sorted([path, *kept])


def test_a_folder_is_as_old_as_its_newest_part(tmp_path):
    folder = temporary.beside(tmp_path / "features")
    folder.mkdir()
    (folder / "0.arrow").write_text("")
    os.utime(folder, (0, 0))
    temporary.sweep(tmp_path, 60)
    assert folder.exists()
    os.utime(folder / "0.arrow", (0, 0))
    temporary.sweep(tmp_path, 60)
    assert not folder.exists()


def test_a_folder_beside_removes_what_an_earlier_one_left_and_never_another(tmp_path):
    other = tmp_path / ".model.tmp"
    other.mkdir()
    (other / "mine").write_text("")
    old = temporary.beside(tmp_path / "model")
    old.mkdir()
    os.utime(old, (0, 0))
    with temporary.folder_beside(tmp_path / "model") as folder:
        (folder / "config.json").write_text("{}")
        folder.rename(tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.tmp", "model"]
    assert (other / "mine").exists()
