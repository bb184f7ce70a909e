"""A command without standard streams, in a folder that is gone, or with a device for a file."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipelines.cli.main import main

COMMAND = f"{sys.executable} -m attnlab"


def shell(line: str, folder) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error_and_no_file_gets_their_numbers(tmp_path, closed):
    line = "import os; from pipelines.cli.main import main; s = main(['ls', 'metrics']); n = os.open('f', 65)"
    done = shell(
        f'{sys.executable} -c "{line}; os.write(n, bytes([48 + n])); raise SystemExit(s)" {closed}', tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int((tmp_path / "f").read_text()) > 2


def test_a_working_folder_that_was_removed_is_one_sentence(tmp_path):
    done = shell(f"mkdir gone; cd gone; rmdir ../gone; {COMMAND} ls metrics", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "working folder: was removed after this shell went there; change into a folder that exists.\n"
    )


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full"])
def test_a_device_is_not_read_as_settings(device, capsys):
    for command in ("validate", "train", "ablate"):
        assert main([command, device, *(["--out", "x"] if command != "validate" else [])]) == 2
        assert f"{device}: is a device, not a file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["report", "reproduce", "compare"])
def test_what_cannot_be_a_folder_is_refused_before_the_work(tmp_path, command, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    words = [command, "a", *(["b", "--score", "x"] if command == "compare" else [])]
    for out, said in {
        tmp_path / "file": "is a file, and a folder is needed",
        tmp_path / "file" / "x": "is a file, and a folder is needed",
        tmp_path / "loop" / "x": "leads to no folder",
        "": "--out: is empty",
        "n" * 300: "has more than 255 bytes",
    }.items():
        assert main([*words, "--out", str(out)]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", ["ls metrics", "report nothing --json"])
def test_an_output_that_takes_nothing_is_one_sentence(tmp_path, words):
    done = shell(f"{COMMAND} {words} > /dev/full", tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "no space left on device.")
    assert "Traceback" not in done.stderr


def test_an_answer_that_nobody_reads_is_no_error(tmp_path):
    done = shell(f"{COMMAND} report nothing --json | true", tmp_path)
    assert "BrokenPipe" not in done.stderr
