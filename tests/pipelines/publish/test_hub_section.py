"""`hub:` in a run's YAML: the Hub is asked before the first step, and a push that fails loses nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.publish.portable import Manifest, manifest_of
from pipelines.storage.run_folder import RunFolder
from tests.pipelines import stored_ablation
from tests.pipelines.hub.conftest import REPO, Attnlab
from tests.pipelines.hub.connection import Fault
from tests.pipelines.hub.double import READER, Hub

Train = Callable[..., tuple[int, str, bool]]  # the `hub:` section -> exit status, output, whether it trained


@pytest.fixture
def train(hub: Hub, run: Path, tmp_path: Path, attnlab: Attnlab, monkeypatch: pytest.MonkeyPatch) -> Train:
    """`attnlab train` of a run with a `hub:` section, whose training is replaced by its result."""
    trained = []

    def execute(_config: object, folder: RunFolder, *_: object) -> Manifest:
        trained.append(folder.path)
        hub.faults = [fault for fault in hub.faults if fault.endpoint != "whoami"]  # back by now
        shutil.copytree(run, folder.path, dirs_exist_ok=True)
        return manifest_of(folder)

    monkeypatch.setattr("pipelines.runs.execute.execute", execute)

    def call(**hub_section: Any) -> tuple[int, str, bool]:
        file = tmp_path / "my.yaml"
        file.write_text(yaml.safe_dump({**stored_ablation.RUN, "hub": {"repo": REPO, **hub_section}}))
        status, output = attnlab("train", file, "--out", tmp_path / "out")
        return status, output, bool(trained)

    return call


def test_a_run_is_pushed_when_it_is_finished(hub: Hub, train: Train, tmp_path: Path) -> None:
    status, output, _ = train()
    assert status == 0, output
    assert "ada may push there when the run is finished" in output
    assert "model.safetensors" in hub.repos[f"models/{REPO}"].refs["main"].files
    [record] = (tmp_path / "out" / "hub").glob("*.json")
    assert json.loads(record.read_text())["status"] == "pushed"


def test_a_token_that_may_not_write_is_refused_before_anything_is_trained(
    hub: Hub, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", READER)
    status, output, trained = train()
    assert (status, "may only read" in output, trained) == (2, True, False)


def test_a_card_that_the_hub_refuses_is_reported_before_anything_is_trained(hub: Hub, train: Train) -> None:
    hub.faults = [Fault("validate", status=400, body=b'{"errors": [{"message": "no such license"}]}')]
    status, output, trained = train(license="my-own")
    assert (status, "no such license" in output, trained) == (2, True, False)


@pytest.mark.parametrize(("choice", "status"), [("stop", 1), ("train", 0)])
def test_when_the_hub_is_down_the_user_has_chosen_whether_to_train(
    hub: Hub, train: Train, monkeypatch: pytest.MonkeyPatch, choice: str, status: int
) -> None:
    monkeypatch.setenv("ATTNLAB_HUB_PATIENCE", "1")
    hub.faults = [Fault("whoami", status=503)]
    found, output, trained = train(on_unreachable=choice)
    assert (found, trained) == (status, choice == "train"), output
    assert ("Nothing was trained" in output) == (choice == "stop")
    assert ("training anyway" in output) == (choice == "train")


def test_a_push_that_fails_leaves_a_finished_run_and_the_command_to_resume(
    hub: Hub, train: Train, attnlab: Attnlab, tmp_path: Path
) -> None:
    hub.faults = [Fault("create", status=403)]
    status, output, _ = train()
    out = tmp_path / "out"
    assert (status, "is finished, but not pushed" in output) == (1, True), output
    assert (out / "manifest.json").exists()
    command = output.split("then ")[-1].strip().rstrip(".")
    assert command == f"attnlab push {out} {REPO}"
    hub.faults = []
    assert attnlab(*command.split()[1:])[0] == 0
    assert len(hub.repos[f"models/{REPO}"].commits) == 2


def test_the_section_does_not_change_the_run_hash() -> None:
    from pipelines.config.load import run_from_dict
    from pipelines.runs import identity

    plain, pushed = ({**stored_ablation.RUN, **more} for more in ({}, {"hub": {"repo": REPO}}))
    hashes = {identity.run_hash(identity.describe(run_from_dict(one))) for one in (plain, pushed)}
    assert len(hashes) == 1


@pytest.mark.parametrize("place", ["cells", "set", "arms"])
def test_an_ablation_whose_runs_would_all_go_to_one_place_is_refused(
    tmp_path: Path, attnlab: Attnlab, place: str
) -> None:
    section = {"hub": {"repo": REPO}}
    values = {
        "cells": {"toy": [stored_ablation.RUN | (section if place == "cells" else {})]},
        "set": section if place == "set" else {},
        "arms": {"stock": [], "gate": {"attention": ["gate"], "set": section if place == "arms" else {}}},
        "seeds": [1],
    }
    file = Path(tmp_path / "ablation.yaml")
    file.write_text(yaml.safe_dump(values))
    status, output = attnlab("validate", file)
    assert (status, "attnlab push" in output) == (2, True), output
