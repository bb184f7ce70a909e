"""The user's settings: read where they are written, strict, without torch; the environment wins over them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipelines.cli.main import main
from pipelines.config.load import load_user_settings
from pipelines.errors import UserError
from pipelines.hub import mirror


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The settings file of a user with no other settings and no mirror in the environment."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("ATTNLAB_MIRROR", raising=False)
    (tmp_path / "attnlab").mkdir()
    return tmp_path / "attnlab" / "settings.yaml"


def test_without_a_file_nothing_is_set(file):
    assert load_user_settings().mirror is None
    assert mirror.root() is None


@pytest.mark.parametrize("written", ["{0}/store", "store", "~/store"])
def test_the_mirror_is_the_folder_that_is_set(file, monkeypatch, written):
    folder = file.parent / "store"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(file.parent))
    file.write_text(f"mirror: {written.format(file.parent)}\n")
    assert mirror.root() == folder


def test_without_xdg_config_home_it_is_below_the_home_folder(file, monkeypatch):
    monkeypatch.setenv("HOME", str(file.parent))
    for absent in ("", "relative/folder"):  # the specification ignores a path that is not absolute
        monkeypatch.setenv("XDG_CONFIG_HOME", absent)
        home = file.parent / ".config" / "attnlab"
        home.mkdir(parents=True, exist_ok=True)
        (home / "settings.yaml").write_text(f"mirror: {file.parent}\n")
        assert mirror.root() == file.parent


def test_the_environment_wins_and_an_empty_variable_names_no_mirror(file, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    file.write_text(f"mirror: {file.parent}\n")
    monkeypatch.setenv("ATTNLAB_MIRROR", str(other))
    assert mirror.root() == other
    monkeypatch.setenv("ATTNLAB_MIRROR", "")
    assert mirror.root() is None


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("# mine\nmirorr: /data\n", 2, "perhaps mirror was meant"),
        ("fp16: true\n", 1, "known keys: mirror; a setting of a run stands in the file of the run"),
        ("mirror: 7\n", 1, 'write mirror: "7"'),
        ("mirror: ''\n", 1, "mirror must be text that is not empty"),
        ("mirror: [a, b]\n", 1, "mirror must be text"),
        ("mirror: /a\nmirror: /b\n", 2, "is set twice"),
        ("- /data\n", 1, "the file must hold `key: value` settings"),
    ],
)
def test_a_mistake_is_told_with_its_line_by_whoever_reads_it(file, capsys, text, line, said):
    file.write_text(text)
    with pytest.raises(UserError) as raised:
        mirror.root()
    assert raised.value.sentence().startswith(f"{file}:{line}: ")
    assert said in raised.value.sentence()
    assert main(["doctor"]) == 1
    assert f"{file}:{line}" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_told_with_what_names_it(file):
    file.write_text("mirror: /no/such/place\n")
    with pytest.raises(UserError, match=f"mirror in {file}: there is no such folder .got /no/such/place."):
        mirror.root()


def test_doctor_tells_the_file_and_what_names_the_mirror(file, capsys):
    main(["doctor"])
    assert f"none; {file} would hold them" in capsys.readouterr().out
    file.write_text(f"mirror: {file.parent}\n")
    main(["doctor"])
    said = capsys.readouterr().out
    assert f"{file}, mirror" in said
    assert f"{file.parent} by mirror in {file}, 0 data sets, 0 models" in said


def test_it_is_read_without_torch(file):
    file.write_text(f"mirror: {file.parent}\n")
    code = "import sys; from pipelines.hub import mirror; print(mirror.root(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(file.parent), "False"]
