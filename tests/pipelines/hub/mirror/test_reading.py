"""A mirror of the Hub: filled by `attnlab fetch`, read before the Hub, and known by commit or content."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
import yaml
from safetensors.torch import save
from transformers import BertConfig, BertModel

from pipelines.config.load import load_run
from pipelines.hub import fetch, mirror, pin
from pipelines.hub.mirror import UNFINISHED
from pipelines.models.starting_point import pinned_run
from pipelines.models.tokenizer import train_tokenizer
from pipelines.runs import identity
from tests.conftest import REPOSITORY
from tests.pipelines.hub.conftest import Attnlab
from tests.pipelines.hub.connection import Fault
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


@pytest.fixture(autouse=True)
def _forget() -> None:
    pin.KNOWN.clear()
    pin.SAID.clear()


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The mirror that is named, which is not there yet."""
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


# ---- filling
def test_fetch_takes_the_configuration_that_is_named_and_one_form_of_the_weights(
    stocked: Hub, place: Path, file, attnlab: Attnlab
) -> None:
    status, output = attnlab("fetch", file())
    assert status == 0, output
    assert held(place / "datasets" / DATA) == {"README.md", "short/train-0.parquet", "short/test-0.parquet"}
    got = held(place / "models" / MODEL)
    assert got == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert head(stocked, f"datasets/{DATA}") in output
    assert mirror.find("models", MODEL).commit == head(stocked, f"models/{MODEL}")


def test_what_is_there_is_not_fetched_again(stocked: Hub, fetched: Path, file, attnlab: Attnlab) -> None:
    before = {path: path.stat().st_mtime_ns for path in fetched.rglob("*.parquet")}
    stocked.requests.clear()
    status, output = attnlab("fetch", file())
    assert (status, output.count("all there already")) == (0, 2), output
    assert {path: path.stat().st_mtime_ns for path in fetched.rglob("*.parquet")} == before
    assert stocked.count("resolve") <= 1  # the card, which `datasets` reads


def test_a_second_configuration_joins_the_first(stocked: Hub, fetched: Path, file, attnlab: Attnlab) -> None:
    status, output = attnlab("fetch", file("other", config="long"))
    assert status == 0, output
    got = {f"{part}/{split}-0.parquet" for part in ("short", "long") for split in ("train", "test")}
    assert held(fetched / "datasets" / DATA) == {"README.md", *got}


def test_a_fetch_that_stops_is_refused_by_readers_and_goes_on(
    stocked: Hub, place: Path, file, attnlab: Attnlab, monkeypatch
) -> None:
    monkeypatch.setenv("ATTNLAB_HUB_PATIENCE", "1")
    stocked.faults = [Fault("resolve", status=503, after=2)]
    assert attnlab("fetch", file())[0] == 1
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    status, output = attnlab("train", file(), "--out", place.parent / "run")
    assert (status, "was not fetched to its end" in output, "attnlab fetch" in output) == (2, True, True)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    stocked.faults = []
    status, output = attnlab("fetch", file())
    assert status == 0, output
    assert not list(place.rglob(UNFINISHED.name))


def test_a_new_commit_replaces_the_old_one(stocked: Hub, fetched: Path, file, attnlab: Attnlab) -> None:
    files = data_files() | {"short/train-0.parquet": parquet(reviews(30))}
    files["short/test-00.parquet"] = files.pop("short/test-0.parquet")
    stocked.repos[f"datasets/{DATA}"].commit("main", "more", files)
    status, output = attnlab("fetch", file())
    assert status == 0, output
    assert held(fetched / "datasets" / DATA) == {
        "README.md",
        "short/train-0.parquet",
        "short/test-00.parquet",
    }
    assert mirror.find("datasets", DATA).commit == head(stocked, f"datasets/{DATA}")


def test_bytes_that_change_on_the_way_are_fetched_again_and_never_kept(
    stocked: Hub, place: Path, file, attnlab: Attnlab
) -> None:
    for good in (0, 1):  # the card too, and all but the card
        stocked.faults = [Fault("resolve", corrupt=True, after=good)]
        status, output = attnlab("fetch", file())
        assert (status, "sent other bytes" in output) == (1, True), output
    stocked.faults = []
    assert attnlab("fetch", file())[0] == 0
    assert mirror.find("datasets", DATA).commit


def test_fetch_refuses_what_would_leave_the_mirror(
    stocked: Hub, place: Path, file, attnlab: Attnlab, tmp_path
) -> None:
    for name in ("../../lab/x", "lab/../x", "/lab/reviews-of-old", "lab/a/b"):
        status, output = attnlab("fetch", file(name=name))
        assert (status, "nor a repository name of the Hub" in output) == (2, True), output
    outside = tmp_path / "outside"
    outside.mkdir()
    (place / "datasets").mkdir(parents=True)
    (place / "datasets" / "lab").symlink_to(outside)
    status, output = attnlab("fetch", file())
    assert (status, "is a link out of the mirror" in output) == (2, True), output
    (place / "datasets" / "lab").unlink()
    repo = stocked.repos[f"datasets/{DATA}"]
    repo.commit("main", "theirs", data_files() | {"../../../planted.txt": b"x"})
    status, output = attnlab("fetch", file())
    assert (status, "names a file outside of its own folder" in output) == (2, True), output
    assert not list(tmp_path.rglob("planted.txt"))


def test_fetch_says_what_it_lacks(stocked: Hub, place: Path, file, attnlab: Attnlab, monkeypatch) -> None:
    script = data_files() | {"scripted.py": b"import datasets\n"}
    stocked.repos["datasets/lab/scripted"] = Repo(private=False)
    stocked.repos["datasets/lab/scripted"].commit("main", "old", script)
    status, output = attnlab("fetch", file(name="lab/scripted"))
    assert (status, "set data.revision: refs/convert/parquet" in output) == (2, True), output
    status, output = attnlab("fetch", file(name="lab/nothing"))
    assert (status, "there is no such repository or revision on the Hub" in output) == (2, True), output
    stocked.repos[f"models/{MODEL}"].commit("main", "pickles", {"config.json": b"{}", "model.bin": b""})
    status, output = attnlab("fetch", file())
    assert (status, "has no weights as model.safetensors" in output) == (2, True), output
    (place / "datasets" / "lab" / "mine").mkdir(parents=True)
    (place / "datasets" / "lab" / "mine" / "a.csv").write_text("text,label\n")
    stocked.repos["datasets/lab/mine"] = Repo(private=False)
    stocked.repos["datasets/lab/mine"].commit("main", "x", data_files())
    status, output = attnlab("fetch", file(name="lab/mine"))
    assert (status, "which was not fetched from the Hub" in output) == (2, True), output
    path = file()
    path.write_text("task: ner\ndata: {generated: {name: ner, train: 9, validation: 3}}\n")
    status, output = attnlab("fetch", path)
    assert (status, "names no data set or model of the Hub" in output) == (2, True), output
    monkeypatch.delenv("ATTNLAB_MIRROR")
    status, output = attnlab("fetch", file())
    assert (status, "set ATTNLAB_MIRROR" in output) == (2, True), output


def test_a_card_that_names_files_of_this_machine_is_refused(
    stocked: Hub, place: Path, file, attnlab: Attnlab, tmp_path, monkeypatch
) -> None:
    (tmp_path / "secret.csv").write_text("text,label\nmine,a\nyours,b\n")
    for path in (str(tmp_path / "secret.csv"), "../../../../secret.csv"):
        card = f"---\nconfigs:\n- config_name: short\n  data_files: [{{split: train, path: '{path}'}}]\n---\n"
        folder = place / "datasets" / "lab" / "own"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "README.md").write_text(card)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        status, output = attnlab("train", file(name="lab/own"), "--out", tmp_path / "run")
        assert (status, "names a file outside of the data set" in output) == (2, True), output


# ---- reading
def _hash(path: Path) -> str:
    return identity.run_hash(identity.describe(pinned_run(load_run([str(path)]))))


def test_a_run_from_the_mirror_and_one_from_the_hub_are_the_same_run(
    stocked: Hub, fetched: Path, file, attnlab: Attnlab, tmp_path
) -> None:
    """One is trained with nothing but the mirror, the other with nothing but the Hub."""
    status, output = attnlab("train", file(), "--out", tmp_path / "from-mirror")
    assert status == 0, output
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "of-hub")}
    del environment["ATTNLAB_MIRROR"]
    command = [sys.executable, "-m", "pipelines", "train", str(file()), "--out", str(tmp_path / "from-hub")]
    done = subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    runs = {
        name: json.loads((tmp_path / f"from-{name}" / "manifest.json").read_text())
        for name in ("mirror", "hub")
    }
    one, other = runs["mirror"], runs["hub"]
    assert one["run_hash"] == other["run_hash"]
    assert one["scores"] == other["scores"]
    assert one["data"]["hashes"] == other["data"]["hashes"]
    assert one["config"]["data"]["revision"] == head(stocked, f"datasets/{DATA}")
    assert one["model_commit"] == other["model_commit"] == head(stocked, f"models/{MODEL}")
    where = [(name, run["sources"]["data.name"]["from_mirror"]) for name, run in runs.items()]
    assert where == [("mirror", True), ("hub", False)]


def test_a_folder_without_a_commit_is_known_by_its_content(place: Path, file, monkeypatch) -> None:
    folder = place / "datasets" / DATA
    for name, content in data_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    path = file()
    path.write_text(yaml.safe_dump(settings() | {"model": {"architecture": "bert", "family": "encoder"}}))
    first = _hash(path)
    pinned = pinned_run(load_run([str(path)], ["data.revision=v7"]))
    assert pinned.data.revision is None  # no revision names this content
    assert identity.run_hash(identity.describe(pinned)) == first
    assert identity.describe(load_run([str(path)]))["config"]["data"]["name"].startswith("sha256:")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "noted").write_text("no part of it")
    assert _hash(path) == first
    (folder / "short" / "train-0.parquet").write_bytes(parquet(reviews(26)))
    assert _hash(path) != first


def test_a_file_that_was_changed_or_lost_since_is_told(
    stocked: Hub, fetched: Path, file, attnlab: Attnlab
) -> None:
    changed = fetched / "datasets" / DATA / "short" / "train-0.parquet"
    content = changed.read_bytes()
    changed.write_bytes(parquet(reviews(25)))
    status, output = attnlab("train", file(), "--out", fetched.parent / "run")
    assert (status, "is not as it was fetched" in output) == (2, True), output
    assert attnlab("fetch", file())[0] == 0
    assert changed.read_bytes() == content
    changed.unlink()
    status, output = attnlab("train", file(), "--out", fetched.parent / "run")
    assert (status, "was fetched and is not there" in output) == (2, True), output


def test_another_revision_than_the_one_that_is_held_is_refused(
    stocked: Hub, fetched: Path, file, attnlab: Attnlab
) -> None:
    for revision in ("f" * 40, "v2"):
        status, output = attnlab("train", file(revision=revision), "--out", fetched.parent / "run")
        assert (status, f"not {revision}" in output, "attnlab fetch" in output) == (2, True, True), output
    repo = stocked.repos[f"datasets/{DATA}"]
    repo.tags["v2"] = repo.refs["main"]  # the same commit under another name
    status, output = attnlab("fetch", file(revision="v2"))
    assert (status, "all there already" in output) == (0, True), output
    assert pinned_run(load_run([str(file(revision="v2"))])).data.revision == head(stocked, f"datasets/{DATA}")
    status, output = attnlab("fetch", file("a"), file("b", revision="v3"))
    assert (status, "two revisions of one repository" in output) == (2, True), output


def test_what_the_mirror_lacks_is_named_with_the_command_that_fetches_it(
    place: Path, file, attnlab: Attnlab, monkeypatch
) -> None:
    place.mkdir()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    status, output = attnlab("train", file(), "--out", place.parent / "run")
    wanted = (
        f"datasets/{DATA} is not in the mirror {place}; where there is a network: ATTNLAB_MIRROR={place} "
    )
    assert (status, wanted + "attnlab fetch CONFIG" in output) == (2, True), output
    data = {"generated": {"name": "text_classification", "train": 9, "validation": 4}}
    path = file()
    path.write_text(yaml.safe_dump(settings() | {"data": data}))
    status, output = attnlab("train", path, "--out", place.parent / "run")
    assert (status, f"models/{MODEL} is not in the mirror" in output) == (2, True), output
    monkeypatch.setenv("ATTNLAB_MIRROR", str(place / "nowhere"))
    status, output = attnlab("train", path, "--out", place.parent / "run")
    assert (status, "ATTNLAB_MIRROR: there is no such folder" in output) == (2, True), output


def test_folders_that_no_card_tells_apart_are_not_mixed(place: Path, file, attnlab: Attnlab) -> None:
    folder = place / "datasets" / DATA
    for name, content in data_files().items():
        target = folder / name.replace("-0.", "/0000.")
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            target.write_bytes(content)
    scratch = ("model.name=null", "model.architecture=bert")
    status, output = attnlab("inspect", file(), *scratch)
    assert (status, "write data.folder instead of data.config" in output) == (2, True), output
    status, output = attnlab("inspect", file(config=None), *scratch)
    assert (status, "name one of long, short" in output) == (2, True), output
    status, output = attnlab("inspect", file(config=None, folder="short"), *scratch)
    assert (status, "train: 24 examples" in output) == (0, True), output


def test_what_attnlab_pushed_is_fetched_whole_and_read_from_the_mirror(
    recorded: Path, hub: Hub, place: Path, attnlab: Attnlab, tmp_path, monkeypatch
) -> None:
    (tmp_path / "on.yaml").write_text("model: {name: 'hub:lab/model', family: encoder}\n")
    status, output = attnlab("fetch", tmp_path / "on.yaml")
    assert status == 0, output
    assert "attnlab.json" in held(place / "models" / "lab" / "model")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fetch.KNOWN.clear()
    hub.requests.clear()
    status, output = attnlab("verify", "hub:lab/model")
    assert (status, "every file is as its run wrote it" in output) == (0, True), output
    assert hub.requests == []
    (place / "models" / "lab" / "model" / "config.json").write_text('{"other": 1}')
    fetch.KNOWN.clear()
    status, output = attnlab("verify", "hub:lab/model")
    assert (status, "is not as it was fetched" in output) == (2, True), output


def test_init_reads_the_family_of_a_model_from_the_mirror(
    fetched: Path, attnlab: Attnlab, monkeypatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (fetched / "models" / MODEL / ".cache").rename(fetched / "set-aside")  # what states the commit
    config = fetched / "models" / MODEL / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"is_decoder": True}))
    status, output = attnlab("init", "--task", "ner", "--model", MODEL)
    assert (status, "family: decoder" in output) == (0, True), output


def test_weights_are_those_of_the_mirror(stocked: Hub, fetched: Path, file, attnlab: Attnlab) -> None:
    """A folder that a user made, with other weights than the Hub's, is read and known by its content."""
    by_commit = _hash(file())
    folder = fetched / "models" / MODEL
    (folder / ".cache" / "huggingface" / "download" / "model.safetensors.metadata").unlink()
    (folder / "model.safetensors").write_bytes(save({"embeddings.word_embeddings.weight": torch.zeros(3, 2)}))
    assert _hash(file()) != by_commit
    pin.SAID.clear()
    status, output = attnlab("train", file(), "--out", fetched.parent / "run")
    assert (status, "does not fit the weights" in output) == (2, True), output
