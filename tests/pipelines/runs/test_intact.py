"""A run is trusted only where its files, its identity and its settings are those that it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipelines.config.load import run_from_dict
from pipelines.errors import UserError
from pipelines.runs import identity, intact
from pipelines.storage import atomic
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import DIGEST, sealed
from tests.pipelines import stored_ablation

CHANGES = {
    "seed": lambda config: config.update(seed=7),
    "an option": lambda config: config["task"].update(max_len=9),
    "a variant": lambda config: config.update(attention=["softcap"]),
    "the data": lambda config: config["data"]["generated"].update(seed=5),
    "the model": lambda config: config["model"].update(architecture="roberta"),
}


@pytest.fixture
def run(tmp_path) -> RunFolder:
    config = run_from_dict(stored_ablation.RUN | {"attention": ["gate"]})
    stored_ablation.finish(tmp_path / "run", config, identity.describe(config))
    return RunFolder(tmp_path / "run")


def refusal(run: RunFolder) -> str:
    with pytest.raises(UserError) as refused:
        intact.require(run, run.manifest())
    return refused.value.sentence()


def test_what_nobody_touched_is_intact(run):
    intact.require(run, run.manifest())


def test_a_model_that_was_not_kept_is_no_damage(run):
    run.drop_model()
    intact.require(run, run.manifest())


def test_every_listed_file_is_compared_and_named_with_the_command_that_mends_it(run):
    for name in run.manifest()["files"]:
        path = run.path / name
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert refusal(run).startswith(f"{path}: has changed since the run finished; ")
        path.unlink()
        said = refusal(run)
        assert said.startswith(f"{path}: is missing; ")
        assert f"attnlab train {run.path}/run.yaml --out {run.path} --fresh" in said
        path.write_bytes(before)


def test_a_link_is_refused_although_its_content_is_right(run, tmp_path):
    for name in ("metrics.jsonl", "model/model.safetensors", "manifest.json", "identity.json"):
        path, elsewhere = run.path / name, tmp_path / "elsewhere"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
        assert refusal(run).startswith(f"{path}: is a link")
        path.unlink()
        elsewhere.rename(path)


def test_a_folder_that_is_a_link_is_refused(run, tmp_path):
    run.model.rename(tmp_path / "elsewhere")
    run.model.symlink_to(tmp_path / "elsewhere")
    assert refusal(run).startswith(f"{run.model}: is a link")


def test_a_file_beside_the_weights_that_the_run_did_not_write_is_refused(run):
    (run.model / "modeling_mine.py").write_text("print('loaded')\n")
    assert f"{run.model}/modeling_mine.py: was not written by the run" in refusal(run)


@pytest.mark.parametrize("change", CHANGES)
def test_settings_that_are_not_those_of_the_identity_are_named(run, change):
    manifest = run.manifest()
    CHANGES[change](manifest["config"])
    # Whoever edits the settings can write the other file, and its hash, too.
    (run.path / "run.yaml").write_text(yaml.safe_dump(manifest["config"]))
    manifest["files"]["run.yaml"] = atomic.sha256_of(run.path / "run.yaml")
    (run.path / "manifest.json").write_text(json.dumps(sealed(manifest)))
    assert "has settings that are not those of identity.json" in refusal(run)


def test_a_run_in_the_folder_of_another_is_refused(run, tmp_path):
    place = tmp_path / "cells" / ("0" * 16)
    place.parent.mkdir()
    Path(run.path).rename(place)
    assert "in the folder of another" in refusal(RunFolder(place))


@pytest.mark.parametrize("field", ["train_seconds", "num_parameters", "peak_memory_bytes", "batches_hash"])
def test_a_number_of_the_manifest_that_no_file_holds_is_known_when_it_changes(run, field):
    manifest = run.manifest()
    value = manifest[field]
    changed = manifest | {field: value + "0" if isinstance(value, str) else value + 1}
    (run.path / "manifest.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match=r"manifest.json: has changed since it was written"):
        run.manifest()


def test_a_manifest_of_0_1_holds_no_hash_of_itself_and_is_read(run):
    manifest = {name: value for name, value in run.manifest().items() if name != DIGEST}
    (run.path / "manifest.json").write_text(json.dumps(manifest))
    assert run.manifest() == manifest
