"""A Hub, a run to push to it, and the command line with that Hub as its only one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.config.load import run_from_dict
from pipelines.hub import contents, fetch
from pipelines.publish import load_check, model_files, staging
from pipelines.publish.model_files import StagedModel
from pipelines.publish.run_repository import state_of
from pipelines.publish.staging import About, Built, PushRequest
from pipelines.runs import identity
from pipelines.storage.run_folder import RunFolder
from tests.pipelines import stored_ablation
from tests.pipelines.hub.double import WRITER, Hub

Attnlab = Callable[..., tuple[int, str]]  # the words of a command -> exit status and what it printed
REPO = "lab/model"


def know_only(hub: Hub, root: Path, patch: pytest.MonkeyPatch) -> None:
    """Make `hub` the only Hub of this process and its children, with the cache below `root`."""
    for name, value in {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": WRITER,
        "HF_HOME": str(root / "hub-home"),
        "HF_HUB_DISABLE_XET": "1",
        "ATTNLAB_HUB_PATIENCE": "5",
    }.items():
        patch.setenv(name, value)
    patch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """An empty Hub, the only one that this process and its children use."""
    fetch.KNOWN.clear()
    with Hub(chunk_bytes=40_000) as running:
        know_only(running, tmp_path, monkeypatch)
        yield running


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run that is staged already, so that pushing it needs neither a model nor torch."""
    folder = tmp_path / "run"
    config = run_from_dict(stored_ablation.RUN)
    stored_ablation.finish(folder, config, identity.describe(config))

    def build(staged: Path) -> Built:
        (staged / "model.safetensors").write_bytes(bytes(range(256)) * 400)
        (staged / "config.json").write_text('{"model_type": "bert"}')
        (staged / "README.md").write_text("---\nlibrary_name: transformers\n---\n\n# A model\n")
        about: About = {"kind": "stock", "proof": {"plain": 0.0}, "attnlab": version("attnlab")}
        return {"tag": contents.write(staged, about), **about}

    staging.stage(folder, PushRequest(REPO), state_of(RunFolder(folder), None), build)
    return folder


@pytest.fixture
def stock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Staging with 100,000 bytes instead of a model, and without the load check in a fresh process."""

    def write(source: Path, target: Path) -> StagedModel:
        (target / "model.safetensors").write_bytes(bytes(100_000))
        (target / "config.json").write_text("{}")
        return StagedModel("stock")

    monkeypatch.setattr(model_files, "write", write)
    monkeypatch.setattr(load_check, "check_loading", lambda folder, ways: {"plain": 0.0})


@pytest.fixture
def recorded(hub: Hub, stock: None, attnlab: Attnlab, tmp_path: Path) -> Path:
    """A run that was pushed with its whole record, and weights of which only the bytes count."""
    folder, config = tmp_path / "recorded", run_from_dict(stored_ablation.RUN)
    stored_ablation.finish(folder, config, identity.describe(config))
    status, output = attnlab("push", folder, REPO)
    assert status == 0, output
    return folder


@pytest.fixture
def attnlab(capsys: pytest.CaptureFixture[str]) -> Attnlab:
    """Run one command and return its exit status and what it printed."""

    def call(*arguments: object) -> tuple[int, str]:
        status = main.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return call


def fingerprint(folder: Path) -> dict[str, str]:
    """Map every file of a folder to the hash of its content, without the records of pushes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent != folder / "hub"
    }
