"""A downloaded run chooses neither files nor code of this machine."""

from __future__ import annotations

import json
import sys

import pytest

from pipelines.config.load import run_from_dict
from pipelines.errors import UserError
from pipelines.registry.installed import require_installed
from pipelines.runs import identity
from pipelines.runs.locate import require_harmless
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import sealed
from tests.pipelines import stored_ablation


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a module, as the command line sees it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "own_variant.py").write_text("raise SystemExit('it ran')\n")
    return tmp_path


@pytest.mark.parametrize("name", ["own_variant:Mine", "no_such_module:Mine"])
def test_a_variant_that_is_not_installed_is_refused_and_not_run(here, name):
    with pytest.raises(UserError, match=f"not installed.*{name}"):
        require_installed(["gate", name], "hub:lab/model")


def test_installed_variants_are_accepted(here):
    require_installed(["gate", "custom_attention.variants.gate:Gate"], "hub:lab/model")


def test_a_file_here_cannot_stand_in_for_an_installed_module(here, monkeypatch):
    (here / "yaml.py").write_text("raise SystemExit('it ran')\n")
    require_installed(["yaml:Loader"], "hub:lab/model")  # the installed one is found first
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    with pytest.raises(UserError, match="not installed"):
        require_installed(["yaml:Loader"], "hub:lab/model")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("data", "train", "/etc/passwd"),
        ("data", "test", "../secret.txt"),
        ("data", "name", "/etc"),
        ("model", "tokenizer", "../tokenizer"),
        ("model", "name", "C:\\models"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(here, section, key, value):
    config = run_from_dict(stored_ablation.RUN)
    stored_ablation.finish(here / "run", config, identity.describe(config))
    run = RunFolder(here / "run")
    require_harmless(run, "hub:lab/model")
    manifest = run.manifest()
    manifest["config"][section][key] = value
    (run.path / "manifest.json").write_text(json.dumps(sealed(manifest)))
    with pytest.raises(UserError, match="names a file outside of its own folder"):
        require_harmless(run, "hub:lab/model")


@pytest.mark.parametrize("place", ["settings", "model"])
def test_code_of_the_working_folder_is_refused_wherever_it_is_named(here, place):
    config = run_from_dict(stored_ablation.RUN)
    stored_ablation.finish(here / "run", config, identity.describe(config))
    run = RunFolder(here / "run")
    if place == "settings":
        manifest = run.manifest()
        manifest["config"]["attention"] = [{"own_variant:Mine": {}}]
        (run.path / "manifest.json").write_text(json.dumps(sealed(manifest)))
    else:
        record = {"variants": [["own_variant:Mine", {}]]}
        (run.model / "config.json").write_text(json.dumps({"attnlab": record}))
    with pytest.raises(UserError, match="own_variant:Mine"):
        require_harmless(run, "hub:lab/model")
