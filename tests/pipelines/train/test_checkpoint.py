"""Checkpoints: the newest that verifies is used; damaged ones are moved aside, never deleted."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from pipelines.errors import RunFailed
from pipelines.train import checkpoint as checkpoint_module
from pipelines.train.checkpoint import (
    CheckpointStore,
    load_model_tensors,
    load_optimizer_tensors,
    model_tensors,
    optimizer_tensors,
)

FILES = ["model.safetensors", "optimizer.safetensors", "state.json", "seal.json"]


@pytest.fixture
def store(tmp_path):
    said = []
    store = CheckpointStore(tmp_path / "checkpoints", say=said.append)
    store.said = said
    return store


def save(store, step, protect=()):
    tensors = {"w": torch.full((3, 5), float(step))}
    return store.save(step, tensors, {"0.step": torch.tensor(float(step))}, {"step": step}, protect)


def damage(path, how):
    content = path.read_bytes()
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif how == "zero":
        path.write_bytes(b"")
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


SEALS = {
    "no list": "[]",
    "no files": "{}",
    "sizes alone": '{"state.json": 12}',
    "three entries": '{"state.json": [1, 2, 3]}',
    "nested deeply": "[" * 100_000,
    "no JSON": "{",
    "no text": b"\xff\xfe",
}


@pytest.mark.parametrize("how", SEALS)
def test_a_seal_of_any_content_is_a_damage_and_no_fault(store, how):
    save(store, 3)
    content = SEALS[how]
    (save(store, 7).folder / "seal.json").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    assert store.newest_valid().step == 3
    assert "step-00000007 is not used: seal.json" in store.said[0]


def test_a_seal_that_links_to_nowhere_was_a_seal(store):
    seal = save(store, 4).folder / "seal.json"
    seal.unlink()
    seal.symlink_to("nowhere")
    with pytest.raises(RunFailed, match="no checkpoint verifies any more"):
        store.newest_valid()


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file_is_a_damage(store, name):
    save(store, 3)
    path = save(store, 7).folder / name
    path.unlink()
    path.mkdir()
    assert store.newest_valid().step == 3


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["delete", "truncate", "zero", "flip"])
def test_any_damage_falls_back_to_the_one_before_and_says_so(store, name, how):
    save(store, 3)
    newest = save(store, 7)
    damage(newest.folder / name, how)
    found = store.newest_valid()
    assert found.step == 3
    assert torch.equal(found.model_tensors()["w"], torch.full((3, 5), 3.0))
    assert "step-00000007" in store.said[0]
    assert (store.folder / "step-00000007.invalid-1").exists(), "broken ones are kept for the user"


def test_an_unfinished_first_checkpoint_means_a_fresh_start(store):
    (save(store, 3).folder / "seal.json").unlink()
    assert store.newest_valid() is None


def test_when_every_sealed_checkpoint_is_damaged_it_refuses_to_start_over(store):
    damage(save(store, 3).folder / "model.safetensors", "flip")
    with pytest.raises(RunFailed, match="--fresh"):
        store.newest_valid()


def test_rotation_keeps_the_newest_and_the_protected(store):
    for step in (1, 2, 3, 4, 5):
        save(store, step, protect=(2,))
    assert [folder.name[-1] for folder in sorted(store.folder.iterdir())] == ["2", "4", "5"]


class Crash(BaseException):
    """The process is gone: nothing that would clean up sees this."""


def crashing(patch, operation):
    """The process dies just before this operation on the disk (from 0) of those that a checkpoint needs."""
    seen = iter(range(10**6))

    def dying(work):
        def wrapped(*arguments, **options):
            if next(seen) == operation:
                raise Crash
            return work(*arguments, **options)

        return wrapped

    patch.setattr(checkpoint_module, "save_file", dying(checkpoint_module.save_file))
    for name in ("mkdir", "write_text", "unlink", "rmdir", "rename"):
        patch.setattr(Path, name, dying(getattr(Path, name)))
    for name in ("fsync", "replace"):
        patch.setattr(os, name, dying(getattr(os, name)))


def test_dead_before_any_operation_on_the_disk_there_is_a_valid_checkpoint_and_it_is_the_newest_sealed(
    tmp_path,
):
    steps = []
    for operation in range(100):
        store = CheckpointStore(tmp_path / str(operation), say=lambda _: None)
        for step in (1, 2, 3):
            save(store, step)
        with pytest.MonkeyPatch.context() as patch:
            crashing(patch, operation)
            try:
                save(store, 4)
                over = True
            except Crash:
                over = False
        found = CheckpointStore(store.folder, say=lambda _: None).newest_valid()
        assert torch.equal(found.model_tensors()["w"], torch.full((3, 5), float(found.step)))
        steps.append(found.step)
        if over:
            break
    assert steps == sorted(steps), "once sealed, it stays"
    assert set(steps) == {3, 4}
    assert len(steps) > 12


def test_a_full_disk_leaves_the_earlier_checkpoint_and_says_how_to_go_on(store, monkeypatch):
    save(store, 3)

    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "save_file", no_space)
    with pytest.raises(RunFailed, match=r"step 3 is intact.*start the same command again"):
        save(store, 7)
    assert store.newest_valid().step == 3


def test_free_space_is_checked_before_anything_is_written(store, monkeypatch):
    save(store, 3)
    monkeypatch.setattr(checkpoint_module.shutil, "disk_usage", lambda _: type("U", (), {"free": 10}))
    with pytest.raises(RunFailed, match="are free"):
        save(store, 7)
    assert sorted(path.name for path in store.folder.iterdir()) == ["step-00000003"]


def test_a_checkpoint_is_no_hugging_face_folder(store):
    assert sorted(path.name for path in save(store, 1).folder.iterdir()) == sorted(FILES)


def test_the_seal_names_size_and_hash_of_every_other_file(store):
    manifest = json.loads((save(store, 1).folder / "seal.json").read_text())
    assert sorted(manifest) == sorted(set(FILES) - {"seal.json"})


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(7, 3)
        self.head = torch.nn.Linear(3, 7, bias=False)
        self.head.weight = self.embedding.weight


def test_tied_weights_and_the_optimizer_come_back_bit_for_bit(store):
    torch.manual_seed(0)
    model = Tied()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    for _ in range(3):
        model.head(model.embedding(torch.tensor([1, 2]))).pow(2).sum().backward()
        optimizer.step()
    saved = store.save(3, model_tensors(model), optimizer_tensors(optimizer), {"step": 3})
    other = Tied()
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.1, fused=True)
    load_model_tensors(other, saved.model_tensors())
    load_optimizer_tensors(other_optimizer, saved.optimizer_tensors())
    for one, two in ((model, optimizer), (other, other_optimizer)):
        two.zero_grad()
        one.head(one.embedding(torch.tensor([4, 2]))).pow(2).sum().backward()
        two.step()
    assert torch.equal(model.embedding.weight, other.embedding.weight)
    assert other.head.weight is other.embedding.weight


def test_a_checkpoint_of_another_model_is_refused(store):
    saved = save(store, 1)
    with pytest.raises(RunFailed, match="another model"):
        load_model_tensors(Tied(), saved.model_tensors())
