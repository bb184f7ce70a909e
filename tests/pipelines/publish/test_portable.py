"""The portable record of a run that read local files: no path in it, and the files are found by content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.config.load import run_from_dict
from pipelines.errors import UserError
from pipelines.publish import portable
from pipelines.runs import identity
from pipelines.storage.run_folder import RunFolder
from tests.pipelines import stored_ablation

SPLITS = ("train", "validation")


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The portable record of a run whose data were files here, opened where there are none."""
    home = tmp_path / "home"
    home.mkdir()
    for split in SPLITS:
        (home / f"{split}.conll").write_text(f"{split} O\n")
    files = {split: str(home / f"{split}.conll") for split in SPLITS}
    config = run_from_dict(stored_ablation.RUN | {"data": files})
    stored_ablation.finish(home / "run", config, identity.describe(config))
    run = RunFolder(home / "run")
    portable.copy_run(run, tmp_path / "run", portable.portable_names([portable.manifest_of(run)["config"]]))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return RunFolder(tmp_path / "run")


def located(record: RunFolder) -> dict[str, Any]:
    return portable.locate_files(portable.manifest_of(record)["config"], record.path, [record])


def test_it_names_its_files_and_no_folder_of_the_machine(record: RunFolder, tmp_path: Path) -> None:
    assert portable.manifest_of(record)["config"]["data"]["train"] == "train.conll"
    for path in record.path.glob("*.*"):
        assert str(tmp_path).encode() not in path.read_bytes(), path


def test_files_of_the_same_content_are_found_in_the_working_folder(record: RunFolder, tmp_path: Path) -> None:
    for split in SPLITS:
        Path(f"{split}.conll").write_text(f"{split} O\n")
    found = located(record)
    assert [found["data"][split] for split in SPLITS] == [
        str(Path(f"{split}.conll").resolve()) for split in SPLITS
    ]
    assert (
        identity.run_hash(identity.describe(run_from_dict(found))) == portable.manifest_of(record)["run_hash"]
    )


def test_parallel_files_are_named_and_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"source": tmp_path / "t.en", "target": tmp_path / "t.de"}
    for name, file in files.items():
        file.write_text(f"{name}\n")
    named = {name: str(file) for name, file in files.items()}
    config = run_from_dict(stored_ablation.RUN | {"data": {"train": named, "validation": named}})
    stored_ablation.finish(tmp_path / "run", config, identity.describe(config))
    run = RunFolder(tmp_path / "run")
    portable.copy_run(run, tmp_path / "copy", portable.portable_names([portable.manifest_of(run)["config"]]))
    record = RunFolder(tmp_path / "copy")
    assert portable.manifest_of(record)["config"]["data"]["train"] == {"source": "t.en", "target": "t.de"}
    monkeypatch.chdir(tmp_path)
    assert located(record)["data"]["train"] == named
    files["target"].write_text("other\n")
    with pytest.raises(UserError, match=r"t\.de"):
        located(record)


def test_a_missing_and_a_changed_file_are_both_named_with_their_hashes(
    record: RunFolder,
) -> None:
    Path("train.conll").write_text("another O\n")
    with pytest.raises(UserError) as refusal:
        located(record)
    another, missing = refusal.value.sentence().splitlines()
    held = portable.identity_of(record)["config"]["data"]
    fix = {split: f"put the file with {held[split]}" for split in SPLITS}
    assert another.startswith(f"train.conll: differs from what the run read; {fix['train']}")
    assert missing.startswith(f"validation.conll: is missing, and is never pushed; {fix['validation']}")
