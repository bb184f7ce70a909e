"""The model folder of a run loads as the model that was trained, or not at all."""

from __future__ import annotations

import os

import pytest
import torch
import transformers

import custom_attention
from pipelines.errors import RunFailed
from pipelines.models import saving
from pipelines.train.checkpoint import CheckpointStore
from tests.custom_attention.models import FAMILIES, logits, nudge, padded, tiny


class NoProcessor:
    def save_pretrained(self, folder) -> None:
        """Nothing to keep."""


def trained(family: str, spec) -> torch.nn.Module:
    model = custom_attention.attach(tiny(family), spec)
    nudge(model.parameters(), size=0.02)
    return model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("spec", [[], ["gate"], [{"temperature": {"per": "model"}}]], ids=str)
def test_it_comes_back_in_the_same_bits(family, spec, tmp_path):
    model = trained(family, spec)
    expected = logits(model, padded(family).inputs)
    saving.save(model, NoProcessor(), tmp_path / "model", writes=True)
    again = saving.load(tmp_path / "model")
    assert torch.equal(logits(again, padded(family).inputs), expected)
    assert custom_attention.is_attached(again) == bool(spec)


def test_plain_transformers_loads_stock_and_refuses_the_rest(tmp_path):
    for spec in ([], ["gate"]):
        saving.save(trained("bert", spec), NoProcessor(), tmp_path / f"{len(spec)}", writes=True)
    transformers.BertForTokenClassification.from_pretrained(tmp_path / "0")
    assert not list((tmp_path / "0").glob("*.py"))
    with pytest.raises((ValueError, RuntimeError)):
        transformers.BertForTokenClassification.from_pretrained(tmp_path / "1")(**padded("bert").inputs)


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_others_may_read_it_as_the_umask_says(mask, tmp_path):
    before = os.umask(mask)
    try:
        saving.save(trained("bert", ["gate"]), NoProcessor(), tmp_path / "model", writes=True)
        store = CheckpointStore(tmp_path / "checkpoints")
        folder = store.save(1, {"a": torch.zeros(2)}, {"b": torch.zeros(2)}, {}).folder
    finally:
        os.umask(before)
    files = [*(tmp_path / "model").iterdir(), *folder.iterdir()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}
    assert {"model.safetensors", "optimizer.safetensors"} <= {path.name for path in files}


def test_a_rank_that_does_not_write_writes_nothing(tmp_path):
    saving.save(trained("bert", ["gate"]), NoProcessor(), tmp_path / "model", writes=False)
    assert not (tmp_path / "model").exists()


def test_a_model_that_could_not_be_saved_is_refused_before_it_is_trained(monkeypatch):
    model = trained("bert", ["gate"])
    saving.check(model)
    saving.check(trained("bert", []))
    monkeypatch.setattr("custom_attention.variants.gate.__file__", "/nowhere/gate.py")
    with pytest.raises(custom_attention.VariantError, match="its source text was not found"):
        saving.check(model)


def test_a_full_disk_is_told_in_words(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", full)
    with pytest.raises(RunFailed, match=r"No space left on device.*start the same command again"):
        saving.save(trained("bert", []), NoProcessor(), tmp_path / "model", writes=True)
