"""A registration that was anchored before the first run is held against its anchor."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipelines.ablation import anchor, declaration
from pipelines.ablation.preregistration import read_registration, register, seal
from pipelines.cli.main import main
from pipelines.errors import UserError
from pipelines.hub import fetch
from tests.pipelines import stored_ablation as made
from tests.pipelines.ablation.test_registration import chained
from tests.pipelines.hub.conftest import know_only
from tests.pipelines.hub.double import Hub

ARMS = ["stock", "gate", "temperature"]
OF_GIT = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
}


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A git repository with one commit, as the working folder."""
    for name, value in OF_GIT.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    git("init", "-q")
    (tmp_path / "work" / "mine.py").write_text("print()\n")
    git("add", "mine.py")
    git("commit", "-q", "-m", "first")
    return tmp_path / "work"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    fetch.KNOWN.clear()
    with Hub() as running:
        know_only(running, tmp_path, monkeypatch)
        yield running


def anchored(root: Path, place: str, arms=ARMS) -> Path:
    """An ablation whose registration was anchored before its runs."""
    stated = made.config(arms=arms, anchor=place)
    folder = root / "toy"
    anchor.refuse_late(stated, folder)
    register(stated, folder)
    assert anchor.anchor(stated, folder) is not None
    made.write(root, arms=arms, anchor=place)
    chained(folder, arms)
    assert main(["report", str(folder)]) == 0
    return folder


def drop_an_arm(folder: Path, forge_runs: bool) -> None:
    """Remove an arm from ablation.yaml, runs.json and the registration, whose digest is computed again."""
    stored, names = (json.loads((folder / name).read_text()) for name in ("registration.json", "runs.json"))
    kept = [arm for arm in ARMS if arm != "temperature"]
    stated = made.config(arms=kept, anchor=stored["anchor"])
    stored["declared"] = declaration.declare(stated)
    stored["hash"] = declaration.digest(stored["declared"])
    made.forge(folder / "registration.json", stored)
    (folder / "runs.json").write_text(
        json.dumps({label: name for label, name in names.items() if "/temperature/" not in label})
    )
    register(stated, folder)
    if forge_runs:
        chained(folder, kept)
    assert main(["report", str(folder)]) == 0


def verified(folder: Path, capsys) -> tuple[int, str]:
    capsys.readouterr()
    status = main(["verify", str(folder)])
    return status, capsys.readouterr().out


# ---- git
def test_a_commit_of_git_names_the_digest_and_verifies(repository, capsys):
    head = git("rev-parse", "HEAD")
    folder = anchored(repository / "runs", "git")
    record = json.loads((folder / "anchor.json").read_text())
    assert git("rev-parse", "HEAD") == record["commit"]
    assert git("rev-parse", "HEAD^") == head
    assert git("diff", "--stat", "HEAD^", "HEAD") == ""
    assert seal(read_registration(folder)) in git("show", "--no-patch", record["commit"])
    status, out = verified(folder, capsys)
    assert status == 0, out
    assert "is on no remote branch: only this machine dates it" in out
    assert f"anchored at git commit {record['commit'][:16]}" in (folder / "report.md").read_text()


@pytest.mark.parametrize("place", ["git", "hub:lab/plan"])
def test_a_dropped_arm_is_found_although_every_digest_and_every_run_was_forged(
    repository, hub, capsys, place
):
    folder = anchored(repository / "runs", place)
    assert verified(folder, capsys)[0] == 0
    drop_an_arm(folder, forge_runs=True)
    status, out = verified(folder, capsys)
    assert status == 1
    assert "registration.json: is not the one that was anchored: its digest is " in out


def test_a_tree_with_changes_is_refused_and_nothing_is_written(repository):
    (repository / "mine.py").write_text("print(1)\n")
    with pytest.raises(UserError, match="has changes that no commit holds: M mine"):
        anchor.refuse_late(made.config(anchor="git"), repository / "runs" / "toy")
    assert not (repository / "runs").exists()


def test_the_runs_themselves_are_no_change_of_the_tree(repository):
    made.write(repository / "runs", "other")
    anchor.refuse_late(made.config(anchor="git"), repository / "runs" / "toy")


def test_without_a_repository_it_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match="anchor: git: git rev-parse failed in the working folder"):
        anchor.refuse_late(made.config(anchor="git"), tmp_path / "runs" / "toy")


def test_an_anchor_after_the_registration_is_refused(repository):
    folder = made.write(repository / "runs")
    with pytest.raises(UserError, match="the registration was made with no anchor"):
        anchor.refuse_late(made.config(anchor="git"), folder)


def test_a_commit_that_is_not_here_is_said(repository, tmp_path, monkeypatch, capsys):
    folder = anchored(repository / "runs", "git")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    status, out = verified(folder, capsys)
    assert (status, "not checked: the repository of the working folder has no commit" in out) == (0, True)


@pytest.mark.parametrize("name", ["--output=planted", "HEAD", "", "main"])
def test_what_is_no_commit_is_never_given_to_git(repository, capsys, name):
    folder = anchored(repository / "runs", "git")
    record = json.loads((folder / "anchor.json").read_text()) | {"commit": name}
    (folder / "anchor.json").write_text(json.dumps(record))
    assert main(["verify", str(folder)]) == 2
    assert f"{folder}/anchor.json: names no commit" in capsys.readouterr().err
    assert not list(repository.glob("planted*"))


def test_an_anchor_that_was_taken_away_is_found(repository, capsys):
    folder = anchored(repository / "runs", "git")
    (folder / "anchor.json").unlink()
    assert "states the anchor git, but anchor.json is missing" in verified(folder, capsys)[1]


def test_no_second_anchor_is_made_after_results(repository):
    folder = anchored(repository / "runs", "git")
    head = git("rev-parse", "HEAD")
    (folder / "anchor.json").unlink()
    with pytest.raises(UserError, match="a new one would come after their results"):
        anchor.refuse_late(made.config(arms=ARMS, anchor="git"), folder)
    assert git("rev-parse", "HEAD") == head


# ---- the Hub
def test_the_registration_is_committed_to_an_empty_repository(repository, hub, capsys):
    folder = anchored(repository / "runs", "hub:lab/plan")
    files = hub.repos["models/lab/plan"].refs["main"].files
    assert files["registration.json"] == (folder / "registration.json").read_bytes()
    assert verified(folder, capsys)[0] == 0


def test_the_same_registration_is_not_committed_twice(repository, hub):
    folder = anchored(repository / "runs", "hub:lab/plan")
    first = json.loads((folder / "anchor.json").read_text())
    (folder / "anchor.json").unlink()
    again = anchor.anchor(made.config(arms=ARMS, anchor="hub:lab/plan"), folder)
    assert again == first


def test_a_repository_that_holds_anything_is_refused(repository, hub):
    anchored(repository / "runs", "hub:lab/plan")
    stated = made.config(anchor="hub:lab/plan")
    register(stated, repository / "other" / "toy")
    with pytest.raises(UserError, match=r"lab/plan: is not empty: it holds another registration\.json"):
        anchor.anchor(stated, repository / "other" / "toy")


def test_a_hub_that_is_away_is_said(repository, hub, capsys, monkeypatch):
    folder = anchored(repository / "runs", "hub:lab/plan")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(repository / "empty"))
    status, out = verified(folder, capsys)
    assert (status, "not checked at hub:lab/plan@" in out) == (0, True)


@pytest.mark.parametrize("place", ["svn", "hub:name", "ftp://example.org", "https://me:secret@example.org"])
def test_what_is_no_anchor_is_refused(tmp_path, capsys, place):
    values = {"cells": {"toy": made.RUN}, "arms": {"stock": [], "gate": ["gate"]}, "seeds": [1]}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values | {"anchor": place}))
    assert main(["validate", str(tmp_path / "a.yaml")]) == 2
    assert "anchor" in capsys.readouterr().err


# ---- anchors that were moved
def redate(folder: Path) -> None:
    record = json.loads((folder / "anchor.json").read_text())
    (folder / "anchor.json").write_text(json.dumps(record | {"time": "2020-01-01T00:00:00+00:00"}))


def move(folder: Path) -> None:
    """Name a later commit, which has the digest too and is then left by its branch."""
    message = git("show", "--no-patch", "--format=%B", "HEAD")
    git("commit", "-q", "--allow-empty", "-m", message)
    record = json.loads((folder / "anchor.json").read_text())
    later = {"commit": git("rev-parse", "HEAD"), "time": git("show", "-s", "--format=%cI", "HEAD")}
    git("reset", "-q", "--hard", "HEAD~2")
    (folder / "anchor.json").write_text(json.dumps(record | later))


@pytest.mark.parametrize(
    ("attack", "said"),
    [(redate, "but anchor.json says 2020-01-01T00:00:00+00:00"), (move, "is on no branch: its history was")],
)
def test_a_commit_that_was_moved_redated_or_rewritten_is_found(repository, capsys, attack, said):
    folder = anchored(repository / "runs", "git")
    attack(folder)
    assert main(["report", str(folder)]) == 0
    status, out = verified(folder, capsys)
    assert (status, said in out) == (1, True), out


def test_a_later_commit_and_a_rewritten_history_of_the_hub_are_found(repository, hub, capsys):
    folder = anchored(repository / "runs", "hub:lab/plan")
    assert verified(folder, capsys)[0] == 0
    repo = hub.repos["models/lab/plan"]
    record, first = json.loads((folder / "anchor.json").read_text()), repo.commits[-1]
    later = repo.commit("main", "again", dict(first.files))
    (folder / "anchor.json").write_text(json.dumps(record | {"commit": later.oid}))
    assert main(["report", str(folder)]) == 0
    status, out = verified(folder, capsys)
    assert (status, "came later: commit " in out) == (1, True), out
    (folder / "anchor.json").write_text(json.dumps(record))
    assert main(["report", str(folder)]) == 0
    repo.commits.insert(0, repo.commits.pop(repo.commits.index(first)))  # kept, and in no history
    repo.commits[:] = [repo.commits[1], repo.commits[-1], first]
    repo.refs["main"] = repo.commits[1]
    status, out = verified(folder, capsys)
    assert (status, "is not in the history of its repository any more" in out) == (1, True), out
