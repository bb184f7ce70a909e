"""A mirror of the Hub is read before the Hub, and known by commit or content."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
import yaml
from safetensors.torch import save

from pipelines.config.load import load_run
from pipelines.hub import fetch, pin
from pipelines.models.starting_point import pinned_run
from pipelines.runs import identity
from tests.conftest import REPOSITORY
from tests.pipelines.hub.conftest import Attnlab
from tests.pipelines.hub.double import Hub
from tests.pipelines.hub.mirror.conftest import (
    DATA,
    MODEL,
    data_files,
    head,
    held,
    parquet,
    reviews,
    settings,
)


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
