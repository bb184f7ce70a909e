"""A pushed ablation is checked and repeated from the Hub alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipelines.publish.portable import manifest_of
from pipelines.storage.run_folder import RunFolder
from tests.pipelines import stored_ablation
from tests.pipelines.hub.conftest import Attnlab, fingerprint
from tests.pipelines.hub.connection import Fault
from tests.pipelines.hub.double import Hub

REPO = "lab/toy"


@pytest.fixture
def ablation(tmp_path: Path) -> Path:
    """An ablation with results, whose models were not kept."""
    return stored_ablation.reported(tmp_path / "runs", seeds=(1, 2, 3))


def test_every_number_of_a_pushed_ablation_is_verified_from_the_hub_alone(
    hub: Hub, ablation: Path, attnlab: Attnlab, tmp_path: Path
) -> None:
    before = fingerprint(ablation.parent)
    status, output = attnlab("push", ablation, REPO)
    assert status == 0, output
    assert {k: v for k, v in fingerprint(ablation.parent).items() if "toy/hub/" not in k} == before
    ablation.parent.rename(tmp_path / "away")
    status, output = attnlab("verify", f"hub:{REPO}")
    assert (status, "every number is what the stored statistics give" in output) == (0, True), output
    [commit] = hub.repos[f"models/{REPO}"].commits[1:]
    assert f"hub:{REPO} at commit {commit.oid}" in output


def test_one_altered_number_is_found(hub: Hub, ablation: Path, attnlab: Attnlab) -> None:
    assert attnlab("push", ablation, REPO)[0] == 0
    repo = hub.repos[f"models/{REPO}"]
    files = dict(repo.refs["main"].files)
    results = json.loads(files["ablation/results.json"])
    results["comparisons"][0]["difference"] += 0.01
    files["ablation/results.json"] = json.dumps(results).encode()
    repo.commit("main", "prettier", files)
    status, output = attnlab("verify", f"hub:{REPO}")
    assert (status, "ablation/results.json is not as it was pushed" in output) == (1, True)


def test_the_text_of_the_data_and_paths_of_this_machine_are_not_sent(
    hub: Hub, ablation: Path, attnlab: Attnlab, tmp_path: Path
) -> None:
    assert attnlab("push", ablation, REPO)[0] == 0
    sent = hub.repos[f"models/{REPO}"].refs["main"].files
    assert not [name for name in sent if name.endswith(".jsonl") and "predictions" in name]
    assert not [name for name, content in sent.items() if str(tmp_path).encode() in content]
    assert not [name for name in sent if "/model/" in name]


def test_the_card_is_the_report_whose_links_name_files(hub: Hub, ablation: Path, attnlab: Attnlab) -> None:
    assert attnlab("push", ablation, REPO, "--data-license", "mine <b>")[0] == 0
    sent = hub.repos[f"models/{REPO}"].refs["main"].files
    card = sent["README.md"].decode()
    assert "## Verdicts" in card
    assert "- Data: mine \\<b\\>." in card
    assert f"attnlab reproduce hub:{REPO}" in card
    links = [link for link in re.findall(r"\]\(([^)]+)\)", card) if not link.startswith("http")]
    assert links
    for link in links:
        assert any(name == link or name.startswith(link) for name in sent), link


@pytest.fixture
def with_models(ablation: Path, stock: None) -> Path:
    """The same ablation with all its models."""
    for folder in (ablation.parent / "cells").iterdir():
        (folder / "model" / "config.json").write_text("{}")
        stored_ablation.list_again(folder)
    return ablation


def test_each_arm_has_a_branch_with_its_best_model_and_the_card_names_them(
    hub: Hub, with_models: Path, attnlab: Attnlab
) -> None:
    status, output = attnlab("push", with_models, REPO)
    assert status == 0, output
    repo = hub.repos[f"models/{REPO}"]
    assert repo.refs.keys() == {"main", "stock", "gate"}
    card = repo.refs["main"].files["README.md"].decode()
    for arm in ("stock", "gate"):
        files = repo.refs[arm].files
        listed = json.loads(files["attnlab.json"])
        assert repo.tags[listed["tag"]] == repo.refs[arm]
        assert f"| `{arm}` |" in card
        assert f"`{listed['tag']}`" in card
        manifest = json.loads(files["run/manifest.json"])
        runs = [RunFolder(stored_ablation.run_folder(with_models, arm, seed)) for seed in (1, 2, 3)]
        best = max(runs, key=lambda run: manifest_of(run)["scores"]["validation"]["f1"])
        assert manifest["run_hash"] == manifest_of(best)["run_hash"]
    assert "model.safetensors" not in repo.refs["main"].files


def test_an_ablation_that_was_pushed_in_part_is_completed(
    hub: Hub, with_models: Path, attnlab: Attnlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNLAB_HUB_PATIENCE", "1")
    hub.faults = [Fault("commit", status=503, after=1)]  # the first branch is there, the second is not
    status, output = attnlab("push", with_models, REPO)
    assert (status, f"To resume: attnlab push {with_models} {REPO}" in output) == (1, True), output
    hub.faults = []
    assert attnlab("push", with_models, REPO)[0] == 0
    repo = hub.repos[f"models/{REPO}"]
    assert len(repo.commits[1:]) == 3  # two models and the report, each once
    assert {commit.oid for commit in repo.tags.values()} == {commit.oid for commit in repo.commits[1:]}


def test_an_ablation_is_no_model(hub: Hub, ablation: Path, attnlab: Attnlab) -> None:
    assert attnlab("push", ablation, REPO)[0] == 0
    status, output = attnlab("predict", f"hub:{REPO}", "--input", "-")
    assert (status, "is an ablation, not a model" in output) == (2, True)


def test_an_ablation_without_results_is_refused(hub: Hub, tmp_path: Path, attnlab: Attnlab) -> None:
    folder = stored_ablation.write(tmp_path / "runs", seeds=(1, 2, 3))
    status, output = attnlab("push", folder, REPO)
    assert (status, "has no results.json yet" in output) == (2, True)
    assert not hub.repos
