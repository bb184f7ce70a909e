"""A record that is damaged, or was not written by a run, is refused in one sentence by every reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.cli.main import main
from pipelines.config.load import run_from_dict
from pipelines.errors import UserError
from pipelines.runs import identity
from pipelines.storage.run_folder import IDENTITY_KINDS, MANIFEST, MANIFEST_KINDS, RunFolder
from tests.pipelines import stored_ablation

COMMANDS = {
    "verify": (),
    "predict": ("--input", "unread.txt"),
    "evaluate": (),
    "reproduce": ("--out", "again"),
    "fold": ("out",),
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = run_from_dict(stored_ablation.RUN)
    stored_ablation.finish(tmp_path / "run", config, identity.describe(config))
    return tmp_path / "run"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_the_file_and_what_it_lacks(command, run, capsys):
    (run / MANIFEST).write_text('{"status": "finished"}')
    assert main([command, str(run), *COMMANDS[command]]) == 2
    said = capsys.readouterr().err
    assert f"{run / MANIFEST}: has no str under 'run_hash' (got nothing)" in said
    assert "train again with --fresh" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is damaged"),
        ("", "is damaged"),
        (b"\xff\xfe", "is damaged"),
        ("[]", "holds no JSON object (got list)"),
        ("3", "holds no JSON object (got int)"),
    ],
)
def test_what_is_no_json_object_is_no_record(content, said, run):
    for name, read in ((MANIFEST, RunFolder(run).manifest), ("identity.json", RunFolder(run).identity)):
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UserError) as refused:
            read()
        assert str(refused.value).startswith(f"{run / name}: {said}")


@pytest.mark.parametrize(("name", "kinds"), [(MANIFEST, MANIFEST_KINDS), ("identity.json", IDENTITY_KINDS)])
def test_every_entry_that_readers_rely_on_is_there_in_its_kind(name, kinds, run):
    file = Path(run / name)
    whole = json.loads(file.read_text())
    read = RunFolder(run).manifest if name == MANIFEST else RunFolder(run).identity
    assert read() == whole
    for entry in kinds:
        for damaged in ({k: v for k, v in whole.items() if k != entry}, whole | {entry: None}):
            file.write_text(json.dumps(damaged))
            with pytest.raises(UserError, match=f"under {entry!r}"):
                read()
