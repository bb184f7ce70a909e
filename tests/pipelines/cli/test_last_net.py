"""An error of a file that no part has turned into a sentence becomes one, with the file in it."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from pipelines.cli.command import out_folder
from pipelines.cli.main import main
from pipelines.errors import UserError


def read(path: Path) -> None:
    """Fail as our code does: with the path in a variable of a module of ours."""
    scope = {"__name__": "pipelines.made_up", "json": json}
    exec("def read(path):\n    return json.loads(path.read_text(encoding='utf-8'))", scope)
    scope["read"](path)


def deep(_: Path) -> None:
    raise RecursionError("maximum recursion depth exceeded")


def denied(path: Path) -> None:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


@pytest.mark.parametrize(
    ("fails", "content", "said"),
    [
        (read, b"{", "JSONDecodeError: Expecting property name"),
        (read, b"\xff", "UnicodeDecodeError"),
        (deep, b"", "RecursionError: maximum recursion depth exceeded; this is a fault of attnlab"),
        (denied, b"", "permission denied."),
    ],
)
def test_one_sentence_and_1(tmp_path, monkeypatch, capsys, fails, content, said):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    monkeypatch.setattr("pipelines.actions.validate.validate_command", lambda *_: fails(path))
    assert main(["validate", "x.yaml"]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert str(path) in err or fails is deep
    assert ("please report it" in err) == (fails is not denied)


@pytest.mark.parametrize("out", ["a" * 256, "runs/" + "é" * 128, "file"])
def test_a_folder_that_cannot_be_is_refused(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    with pytest.raises(UserError, match="--out"):
        out_folder(out, [])
    assert out_folder("a" * 255, []) == "a" * 255


def test_a_token_among_the_flags_is_not_echoed(capsys):
    assert main(["train", "x.yaml", "--token=hf_aB3dE6gH9"]) == 2
    assert "hf_aB3dE6gH9" not in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out.split()[0]) == (0, "attnlab")
