"""No token and no path of this machine reaches the Hub, from any file or setting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.config.load import run_from_dict
from pipelines.errors import UserError
from pipelines.hub import secrets
from pipelines.publish import portable
from pipelines.runs import identity
from tests.pipelines import stored_ablation
from tests.pipelines.hub.conftest import REPO, Attnlab
from tests.pipelines.hub.double import WRITER, Hub

TOKEN = "hf_" + "PlantedToken" * 3
OTHERS = (
    "ghp_" + "a1" * 18,
    "AKIA" + "ABCD2345" * 2,
    "sk-proj-" + "x" * 40,
    "-----BEGIN RSA PRIVATE KEY-----",
)


def finished(folder: Path, **changes: Any) -> Path:
    config = run_from_dict(stored_ablation.RUN | changes)
    stored_ablation.finish(folder, config, identity.describe(config))
    return folder


def refused(hub: Hub, status: int, output: str, secret: str) -> None:
    assert status == 2, output
    assert "so nothing was sent" in output
    assert secret not in output
    assert secret.encode() not in hub.received
    assert not hub.repos


@pytest.mark.parametrize("secret", [TOKEN, *OTHERS])
def test_a_token_in_the_configuration_is_refused(
    hub: Hub, stock: None, attnlab: Attnlab, tmp_path: Path, secret: str
) -> None:
    model = {**stored_ablation.RUN["model"], "config": {"name_or_path": secret}}
    refused(hub, *attnlab("push", finished(tmp_path / "run", model=model), REPO), secret)


def test_a_token_in_a_line_of_the_log_is_refused(
    hub: Hub, stock: None, attnlab: Attnlab, tmp_path: Path
) -> None:
    run = finished(tmp_path / "run")
    with open(run / "metrics.jsonl", "a") as log:
        log.write(json.dumps({"event": "note", "step": 40, "text": f"logged in as {TOKEN}"}) + "\n")
    stored_ablation.list_again(run)
    refused(hub, *attnlab("push", run, REPO), TOKEN)


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "MY_SECRET", "DB_PASSWORD"])
def test_the_value_of_a_secret_variable_is_refused_whatever_it_looks_like(
    hub: Hub, stock: None, attnlab: Attnlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "correct horse battery")
    run = finished(tmp_path / "run")
    status, output = attnlab("push", run, REPO, "--data-license", "correct horse battery")
    refused(
        hub, status, output.replace("--data-license 'correct horse battery'", ""), "correct horse battery"
    )
    assert name in output


def test_the_very_token_that_pushes_is_refused_in_what_is_pushed(
    hub: Hub, stock: None, attnlab: Attnlab, tmp_path: Path
) -> None:
    run = finished(tmp_path / "run", data={**stored_ablation.RUN["data"], "revision": WRITER})
    status, output = attnlab("push", run, REPO)
    assert (status, WRITER in output) == (2, False)
    assert not hub.repos
    bodies = hub.received.replace(f"Bearer {WRITER}".encode(), b"")  # where a token belongs
    assert WRITER.encode() not in bodies


@pytest.mark.parametrize(
    "place",
    ["log.txt", "model/training_args.bin", f"model/{TOKEN}.json", "checkpoints/step-1/state.json", ".env"],
)
def test_a_token_in_a_file_that_is_not_on_the_list_is_not_sent(
    hub: Hub, stock: None, attnlab: Attnlab, tmp_path: Path, place: str
) -> None:
    run = finished(tmp_path / "run")
    (run / place).parent.mkdir(parents=True, exist_ok=True)
    (run / place).write_text(f"token={TOKEN}")
    status, output = attnlab("push", run, REPO)
    assert status == 0, output
    assert TOKEN.encode() not in hub.received
    assert b"model.safetensors" in hub.received  # the search would have found it


def test_a_token_as_a_file_name_is_refused_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / f"{TOKEN}.json").write_text("{}")
    with pytest.raises(UserError) as refusal:
        secrets.refuse(tmp_path)
    assert TOKEN not in refusal.value.sentence()


def test_a_token_as_the_name_of_the_run_is_refused(
    hub: Hub, stock: None, attnlab: Attnlab, tmp_path: Path
) -> None:
    status, output = attnlab("push", finished(tmp_path / TOKEN), REPO)
    assert (status, "the title for the Hub: holds what looks like a token" in output) == (2, True), output
    assert TOKEN.encode() not in hub.received


def test_a_secret_that_only_a_later_process_knows_is_found_in_what_was_staged(
    hub: Hub, stock: None, attnlab: Attnlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished(tmp_path / "run")
    with open(run / "metrics.jsonl", "a") as log:
        log.write(json.dumps({"event": "note", "step": 40, "text": "correct horse battery"}) + "\n")
    stored_ablation.list_again(run)
    assert attnlab("push", run, REPO, "--dry-run")[0] == 0
    monkeypatch.setenv("MY_SECRET", "horse battery")
    status, output = attnlab("push", run, REPO)
    assert (status, "run/metrics.jsonl: holds the value of MY_SECRET" in output) == (2, True), output
    assert b"horse battery" not in hub.received


def test_nothing_is_asked_of_the_hub_unsearched(hub: Hub, attnlab: Attnlab) -> None:
    status, output = attnlab("verify", f"hub:lab/{TOKEN}")
    assert (status, "the repo for the Hub: holds what looks like a token" in output) == (2, True), output
    assert not hub.requests


def test_a_token_at_the_border_of_two_blocks_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "BLOCK_BYTES", 4096)
    (tmp_path / "model.safetensors").write_bytes(bytes(4096 - 10) + TOKEN.encode() + bytes(4096))
    with pytest.raises(UserError, match="looks like a token"):
        secrets.refuse(tmp_path)


@pytest.mark.parametrize("text", ["/home/ada/x", "under {home}/data", 'quoted "{cwd}/file"'])
def test_a_path_of_this_machine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.chdir(tmp_path.parent)
    (tmp_path / "note.md").write_text(text.format(home=Path.home(), cwd=Path.cwd()))
    with pytest.raises(UserError, match="a path of this machine"):
        secrets.refuse(tmp_path)


def test_files_are_known_by_their_names_and_hashes_not_by_their_paths(tmp_path: Path) -> None:
    paths = {split: str(tmp_path / "private" / split / "data.conll") for split in ("train", "test")}
    model = {"name": "/models/base", "tokenizer": "org/tokenizer"}
    names = portable.portable_names(
        [{**stored_ablation.RUN, "data": paths | {"validation": None}, "model": model}]
    )
    assert sorted(names.values()) == ["base", "test/data.conll", "train/data.conll"]


def test_a_word_of_the_text_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    (tmp_path / "README.md").write_text("/rooted, square/root, hf_short, desk-" + 40 * "-")
    (tmp_path / "tokenizer.json").write_text('{"/root": 1}')
    secrets.refuse(tmp_path)


def test_a_process_at_the_root_of_the_file_system_may_push(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/")
    monkeypatch.chdir("/")
    secrets.refuse_request({"card": "# A model", "folder": tmp_path})
