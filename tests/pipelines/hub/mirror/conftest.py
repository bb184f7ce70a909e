"""A Hub with a data set and a model, and a mirror that `attnlab fetch` has filled from it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
import yaml
from transformers import BertConfig, BertModel

from pipelines.hub import mirror, pin
from pipelines.models.tokenizer import train_tokenizer
from tests.pipelines.hub.conftest import Attnlab
from tests.pipelines.hub.double import Hub, Repo

DATA, MODEL = "lab/reviews", "lab/small"
WORDS = ("sea", "hill", "road", "lamp")


def parquet(rows: list[dict]) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def reviews(count: int) -> list[dict]:
    return [{"text": f"{WORDS[n % 4]} {n} is fine", "label": ("bad", "good")[n % 2]} for n in range(count)]


CARD = b"""---
configs:
- config_name: short
  data_files: [{split: train, path: short/train-*}, {split: test, path: short/test-*}]
- config_name: long
  data_files: [{split: train, path: long/train-*}, {split: test, path: long/test-*}]
---
"""


def data_files() -> dict[str, bytes]:
    sizes = {"short/train": 24, "short/test": 8, "long/train": 60, "long/test": 9}
    files = {f"{name}-0.parquet": parquet(reviews(size)) for name, size in sizes.items()}
    return {"README.md": CARD, ".gitattributes": b"", "notes/plan.txt": b"not data", **files}


@pytest.fixture(scope="module")
def model_files(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer("encoder", iter(f"{word} is fine" for word in WORDS * 9), 300)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(5)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files | {"pytorch_model.bin": b"a pickle", "onnx/model.safetensors": b"another form"}


@pytest.fixture
def stocked(hub: Hub, model_files) -> Hub:
    """A Hub with a data set of two configurations and a model."""
    for name, files in ((f"datasets/{DATA}", data_files()), (f"models/{MODEL}", model_files)):
        hub.repos[name] = Repo(private=False)
        hub.repos[name].commit("main", "all of it", dict(files))
    return hub


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The mirror that is named, which is not there yet."""
    pin.KNOWN.clear()
    pin.SAID.clear()
    monkeypatch.setenv("ATTNLAB_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "mirror"


def settings(**data) -> dict:
    splits = {"train": "train", "validation": "test", "test": None}
    return {
        "task": {"name": "text_classification", "max_len": 32},
        "data": {"name": DATA, "config": "short", **splits, **data},
        "model": {"name": MODEL, "family": "encoder"},
        "max_steps": 2, "batch_size": 2, "eval_every_steps": 2, "diagnostics_every_steps": None,
    }  # fmt: skip


@pytest.fixture
def file(tmp_path) -> Callable[..., Path]:
    def write(title: str = "run", **data) -> Path:
        path = tmp_path / f"{title}.yaml"
        path.write_text(yaml.safe_dump(settings(**data)))
        return path

    return write


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("kept") / "mirror"


@pytest.fixture
def fetched(stocked: Hub, place: Path, kept: Path, file, attnlab: Attnlab) -> Path:
    """The mirror after `attnlab fetch`: made once, copied for each test."""
    if not kept.exists():
        status, output = attnlab("fetch", file())
        assert status == 0, output
        shutil.copytree(place, kept)
    else:
        shutil.copytree(kept, place)
    return place


def head(hub: Hub, name: str, branch: str = "main") -> str:
    return hub.repos[name].refs[branch].oid


def held(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in mirror.files_of(folder)}
