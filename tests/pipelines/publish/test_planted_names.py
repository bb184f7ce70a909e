"""A downloaded file that names a path outside of its folder stops the command."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.errors import UserError
from pipelines.storage.paths import inside
from pipelines.storage.sealed import DIGEST, sealed
from tests.pipelines import stored_ablation
from tests.pipelines.hub.conftest import REPO, Attnlab
from tests.pipelines.hub.double import Hub

Refused = Callable[[str, str], None]  # a command and the name that it must refuse


def plant(hub: Hub, name: str, change: Callable[[Any], None]) -> None:
    """Change one file of the repository and correct every hash, as its owner can."""
    repo = hub.repos[f"models/{REPO}"]
    files = dict(repo.refs["main"].files)
    load, dump = (yaml.safe_load, yaml.safe_dump) if name.endswith(".yaml") else (json.loads, json.dumps)
    content = load(files.get(name, b"{}"))
    change(content)
    files[name] = dump(sealed(content) if DIGEST in content else content).encode()
    if name != "attnlab.json":
        listed = json.loads(files["attnlab.json"])
        listed["files"][name] = hashlib.sha256(files[name]).hexdigest()
        files["attnlab.json"] = json.dumps(listed).encode()
    repo.commit("main", "planted", files)


@pytest.fixture
def refused(hub: Hub, attnlab: Attnlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Check that a command refuses a planted name, reports it, and trains nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_text("secret\n")
    for trains in ("pipelines.actions.train.train_command", "pipelines.actions.ablate.ablate_command"):
        monkeypatch.setattr(trains, lambda *_, **__: pytest.fail("it trains"))

    def call(command: str, name: str) -> None:
        options = ["--input", "secret.txt"] if command == "predict" else []
        status, output = attnlab(command, f"hub:{REPO}", *options)
        assert (status, f"names a file outside of its own folder (got {name})" in output) == (2, True), output

    return call


@pytest.fixture
def pushed(hub: Hub, run: Path, attnlab: Attnlab) -> None:
    assert attnlab("push", run, REPO)[0] == 0


@pytest.mark.parametrize("name", ["../../secret.txt", "{tmp_path}/secret.txt"])
def test_the_list_of_what_was_pushed(
    hub: Hub, pushed: None, refused: Refused, tmp_path: Path, name: str
) -> None:
    name = name.format(tmp_path=tmp_path)
    digest = hashlib.sha256(b"secret\n").hexdigest()  # right, so that only its place is wrong
    plant(hub, "attnlab.json", lambda listed: listed["files"].update({name: digest}))
    refused("verify", name)


def test_the_shards_of_the_weights(hub: Hub, pushed: None, refused: Refused) -> None:
    index = {"weight_map": {"a.weight": "model.safetensors", "b.weight": "../../other.safetensors"}}
    plant(hub, "model.safetensors.index.json", lambda content: content.update(index))
    refused("verify", "../../other.safetensors")


@pytest.mark.parametrize("command", ["verify", "predict"])
def test_the_files_of_a_run(hub: Hub, recorded: Path, refused: Refused, command: str) -> None:
    name = "model/../../../secret.txt"
    plant(hub, "run/manifest.json", lambda manifest: manifest["files"].update({name: "0" * 64}))
    refused(command, name)


@pytest.mark.parametrize("name", ["{tmp_path}/secret.txt", "../secret.txt"])
@pytest.mark.parametrize(("section", "key"), [("data", "train"), ("model", "name"), ("model", "tokenizer")])
def test_the_data_and_the_model_of_a_run_that_is_to_be_repeated(
    hub: Hub, recorded: Path, refused: Refused, tmp_path: Path, section: str, key: str, name: str
) -> None:
    name = name.format(tmp_path=tmp_path)
    plant(hub, "run/manifest.json", lambda manifest: manifest["config"][section].update({key: name}))
    refused("reproduce", name)


class TestAblation:
    @pytest.fixture(autouse=True)
    def pushed(self, hub: Hub, attnlab: Attnlab, tmp_path: Path) -> None:
        """A pushed ablation."""
        ablation = stored_ablation.reported(tmp_path / "mine", seeds=(1, 2, 3))
        assert attnlab("push", ablation, REPO)[0] == 0

    @pytest.mark.parametrize("command", ["verify", "reproduce"])
    def test_the_folders_of_its_runs(self, hub: Hub, refused: Refused, tmp_path: Path, command: str) -> None:
        name = str(tmp_path / "mine" / "cells")
        plant(hub, "ablation/runs.json", lambda names: names.update({"toy/stock/1": name}))
        refused(command, name)

    @pytest.mark.parametrize("place", ["cells", "arms"])
    def test_the_data_of_its_cells_and_arms(self, hub: Hub, refused: Refused, place: str) -> None:
        def change(stated: dict) -> None:
            part = stated["cells"]["toy"] if place == "cells" else stated["arms"]["gate"]["set"]
            part["model"] = {**part.get("model", {}), "tokenizer": "../secret"}

        plant(hub, "ablation/ablation.yaml", change)
        refused("reproduce", "../secret")

    def test_ablations_that_are_reported_together(self, hub: Hub, attnlab: Attnlab, tmp_path: Path) -> None:
        repo = hub.repos[f"models/{REPO}"]
        files = repo.refs["main"].files | {"ablation/ablations.json": json.dumps([str(tmp_path)]).encode()}
        repo.commit("main", "planted", files)
        status, output = attnlab("verify", f"hub:{REPO}")
        assert (status, "names folders outside of it" in output) == (2, True), output


def test_a_name_on_the_hub_itself(
    hub: Hub, pushed: None, refused: Refused, attnlab: Attnlab, tmp_path: Path
) -> None:
    """The client's own guard, which we rely on: it writes nowhere but in its cache."""
    repo = hub.repos[f"models/{REPO}"]
    repo.commit("main", "planted", repo.refs["main"].files | {"../../../../../planted.txt": b"here"})
    status, output = attnlab("verify", f"hub:{REPO}")
    assert status == 1, output
    assert not list(tmp_path.rglob("planted.txt"))


@pytest.mark.parametrize("name", ["a.json", "a/b.json", "a..b/c", ".a"])
def test_a_name_in_the_folder_is_its_path(name: str) -> None:
    assert inside(Path("folder"), name, "here") == Path("folder") / name


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/../../b", "/a", "..\\a", "C:a", "\\\\server\\a"])
def test_a_name_of_the_folder_itself_or_elsewhere_is_none(name: str) -> None:
    with pytest.raises(UserError, match="outside of its own folder"):
        inside(Path("folder"), name, "here")
