"""One run from training to reuse: pushed by its YAML, then read from the Hub alone by every command."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from pipelines.errors import RunFailed
from pipelines.hub import fetch
from pipelines.models import saving
from tests.pipelines.hub.conftest import Attnlab, know_only
from tests.pipelines.hub.double import Hub

REPO = "lab/tagger"
RUN = {
    "task": {"name": "ner", "max_len": 24},
    "data": {"generated": {"name": "ner", "train": 60, "validation": 21, "test": 23}},
    "model": {
        "architecture": "bert",
        "family": "encoder",
        "vocab_size": 320,
        "config": {
            "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 29,
        },
    },
    "attention": ["gate"],
    "where": {"layers": "1"},
    "max_steps": 6,
    "learning_rate": 3e-3,
    "device": "cpu",
    "hub": {"repo": REPO, "license": "apache-2.0"},
}  # fmt: skip
World = tuple[Hub, Path]  # the Hub, and the folder in which the run was trained
asked: list[set[str]] = []  # of the Hub when training began, and when it was over


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A Hub that holds a run, pushed by the `hub:` of its YAML, and the folder in which it was trained."""
    from pipelines.cli import main
    from pipelines.runs import execute as execution

    root = tmp_path_factory.mktemp("whole-way")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, Hub(chunk_bytes=60_000) as hub:
        know_only(hub, root, patch)
        patch.chdir(root)
        (root / "my.yaml").write_text(yaml.safe_dump(RUN))
        execute = execution.execute

        def watched(*arguments: Any) -> dict[str, Any]:
            asked.append({endpoint for endpoint, _ in hub.requests})
            manifest = execute(*arguments)
            asked.append({endpoint for endpoint, _ in hub.requests})
            return manifest

        with patch.context() as watching:
            watching.setattr(execution, "execute", watched)
            assert main.main(["train", "my.yaml", "--out", "one"]) == 0
        (root / "one").rename(root / "away")
        fetch.KNOWN.clear()
        yield hub, root
        fetch.KNOWN.clear()


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def test_the_hub_is_asked_before_the_first_step_and_given_the_run_after_the_last(world: World) -> None:
    hub, root = world
    preflight = {"whoami", "info", "validate"}  # who may write, where, and whether the card is valid
    assert [names - {"unknown"} for names in asked] == [preflight, preflight]  # unknown: the client's own
    [commit] = hub.repos[f"models/{REPO}"].commits[1:]
    assert list(hub.repos[f"models/{REPO}"].tags.values()) == [commit]
    loaded = saving.load(fetch.fetch_model(f"hub:{REPO}").folder).state_dict()
    trained = saving.load(root / "away" / "model").state_dict()
    assert loaded.keys() == trained.keys()
    assert all(torch.equal(loaded[name], value) for name, value in trained.items())


def test_it_predicts_and_scores_as_the_run_itself(world: World, attnlab: Attnlab, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("the lawyers of Jordan slept .\nMrs Kent wept .\n")
    answers = []
    for run in (f"hub:{REPO}", world[1] / "away"):
        status, output = attnlab("predict", run, "--input", lines, "--out", tmp_path / "answers")
        assert status == 0, output
        answers.append((tmp_path / "answers").read_text())
    assert answers[0] == answers[1]
    status, output = attnlab("evaluate", f"hub:{REPO}", "--split", "test")
    assert (status, "as the run reported" in output) == (0, True), output


def test_it_is_verified_and_reproduced(world: World, attnlab: Attnlab, tmp_path: Path) -> None:
    status, output = attnlab("verify", f"hub:{REPO}")
    assert status == 0, output
    status, output = attnlab("reproduce", f"hub:{REPO}", "--out", tmp_path / "again")
    assert status == 0, output


def going_on(tmp_path: Path, **changes: Any) -> Path:
    """A YAML of a run that begins with what was pushed."""
    settings = {key: value for key, value in RUN.items() if key not in ("attention", "where", "hub")}
    model = {"name": f"hub:{REPO}", "family": "encoder"}
    file = tmp_path / "on.yaml"
    file.write_text(yaml.safe_dump(settings | {"model": model} | changes))
    return file


def test_a_run_goes_on_from_it_with_its_attention_live(
    world: World, attnlab: Attnlab, tmp_path: Path
) -> None:
    hub, root = world
    out = tmp_path / "on"
    settings = going_on(tmp_path, learning_rate=1e-9, variant_learning_rate=1e-9)  # where it began, it stays
    status, output = attnlab("train", settings, "--out", out)
    assert status == 0, output
    assert "continues with the attention that the model carries" in output
    found, before = manifest(out), manifest(root / "away")
    [commit] = hub.repos[f"models/{REPO}"].commits[1:]
    assert found["config"]["model"]["name"] == f"hub:{REPO}@{commit.oid}"  # part of the run's hash
    assert found["config"]["attention"] == ["gate"]
    assert found["config"]["where"]["layers"] == "1"
    assert found["num_variant_parameters"] == before["num_variant_parameters"] > 0
    assert found["proof"]["max_difference"] > 0  # its gates are not where they started
    old, new = (saving.load(folder / "model").state_dict() for folder in (root / "away", out))
    for name, value in old.items():
        torch.testing.assert_close(new[name], value, rtol=0, atol=1e-6)


def test_before_several_processes_start_one_asks_what_a_name_means(
    world: World, attnlab: Attnlab, tmp_path: Path
) -> None:
    hub, _ = world
    fetch.KNOWN.clear()
    hub.received.clear()
    settings = going_on(tmp_path, processes=2, max_steps=2, diagnostics_every_steps=None)
    status, output = attnlab("train", settings, "--out", tmp_path / "on")
    assert status == 0, output
    name = manifest(tmp_path / "on")["config"]["model"]["name"]
    assert name == f"hub:{REPO}@{hub.repos[f'models/{REPO}'].refs['main'].oid}"
    asked = Counter(re.findall(rb"GET /api/models/lab/tagger/revision/(\S+)", hub.received))
    assert asked == {b"main": 1}  # the others find that commit in the cache


def test_processes_that_others_started_and_that_found_two_commits_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pipelines.config.load import run_from_dict
    from pipelines.runs import prepare

    configs = [
        run_from_dict(RUN | {"model": {"name": f"hub:{REPO}@{commit}", "family": "encoder"}})
        for commit in "ab"
    ]
    splits: Any = SimpleNamespace(hashes={"train": "as ever"})
    monkeypatch.setattr(prepare, "gather_object", lambda own: own)
    prepare._require_equal_ranks(configs[0], splits)
    other = json.dumps([splits.hashes, configs[1].model.model_dump()], sort_keys=True)
    monkeypatch.setattr(prepare, "gather_object", lambda own: [*own, other])
    with pytest.raises(RunFailed, match="start from different models"):
        prepare._require_equal_ranks(configs[0], splits)


def test_it_goes_on_with_no_other_attention(world: World, attnlab: Attnlab, tmp_path: Path) -> None:
    file = going_on(tmp_path, attention=["temperature"])
    status, output = attnlab("train", file, "--out", tmp_path / "on")
    assert (status, "the model carries the attention ['gate']" in output) == (2, True), output
    assert not (tmp_path / "on").exists()


def test_without_the_prefix_it_is_not_taken_for_stock(
    world: World, attnlab: Attnlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder as transformers downloads it, which tells nothing of its record."""
    monkeypatch.setattr("pipelines.models.starting_point._carried", lambda config: None)
    file = going_on(tmp_path, model={"name": str(world[1] / "away" / "model"), "family": "encoder"})
    status, output = attnlab("train", file, "--out", tmp_path / "on")
    assert (status, "model.name: carries variants (gate)" in output) == (2, True), output


def test_it_goes_on_with_no_other_head(world: World, attnlab: Attnlab, tmp_path: Path) -> None:
    task = {"task": {"name": "language_modelling", "max_len": 24, "overlap": 4}}
    data = {"data": {"generated": {"name": "language_modelling", "train": 20, "validation": 9, "test": 9}}}
    status, output = attnlab("train", going_on(tmp_path, **task, **data), "--out", tmp_path / "on")
    assert (status, "attention in a BertForTokenClassification, which has no other head" in output) == (
        2,
        True,
    )


def test_it_is_no_cell_of_an_ablation(world: World, attnlab: Attnlab, tmp_path: Path) -> None:
    ablation = tmp_path / "ablation.yaml"
    cells = {"toy": [str(going_on(tmp_path))]}
    ablation.write_text(
        yaml.safe_dump({"cells": cells, "arms": {"stock": [], "gate": ["gate"]}, "seeds": [1]})
    )
    status, output = attnlab("ablate", ablation, "--out", tmp_path / "runs" / "toy")
    assert (status, "so no arm could be stock" in output) == (2, True), output
