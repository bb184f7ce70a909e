"""Guides of docs/ as tests run them: their blocks, the files that they say to write, and their commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED_FILE = re.compile(r"`([\w/.-]+\.(?:py|yaml))`[^`]*:\s*$")
OFFLINE = re.compile(
    r"^```sh offline\n(?P<lines>.*?)^```$(?:\s*^```text\n(?P<printed>.*?)^```$)?", re.DOTALL | re.MULTILINE
)
NO_NETWORK = """\
import socket

connect = socket.socket.connect


def guarded(self, address):
    host = "localhost" if self.family == socket.AF_UNIX else address[0]
    if host not in ("localhost", "::1") and not host.startswith("127."):
        raise SystemExit(f"a line that is marked offline tried to reach {address}")
    return connect(self, address)


socket.socket.connect = guarded
"""
COMMAND = {"attnlab": f"{sys.executable} -m pipelines", "python": sys.executable}


@dataclass(frozen=True)
class Block:
    """A block of code; `file` is the one that the line before names, if it names one."""

    language: str
    text: str
    file: str | None


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page of docs/, in order."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        before = text[: match.start()].rstrip().rpartition("\n\n")[2]
        named = NAMED_FILE.search(" ".join(before.split()))
        file = named[1] if named and match[1] in ("python", "yaml") else None
        found.append(Block(match[1], match[2], file))
    return found


def commands(page: str) -> list[str]:
    """Return the commands of a page, without their comments."""
    lines = [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]
    return [line.partition("  #")[0].strip() for line in lines]


@dataclass(frozen=True)
class Step:
    """A command that is marked offline, and lines of its output, in which ... stands for anything."""

    command: str
    printed: tuple[str, ...]


def offline_steps(page: str) -> list[Step]:
    """Return the commands in blocks of a page that begin with ```sh offline, in order."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    found = []
    for match in OFFLINE.finditer(text):
        lines = re.sub(r"\s*\\\n\s*", " ", match["lines"]).splitlines()
        commands = [line.partition("  #")[0].strip() for line in lines]
        printed = tuple((match["printed"] or "").splitlines())
        last = len(commands) - 1
        found += [
            Step(command, printed if n == last else ()) for n, command in enumerate(commands) if command
        ]
    return found


RUNS_SOMETHING = re.compile(
    r"(?:^|\| )(?:\w+=\S+ )*(?:\.venv/bin/)?(?:attnlab|python|scripts/|\.ci/|pip|hf|nice) ?\S"
)
REMARK = re.compile(r"\s{2,}(?=[#A-Za-z(]).*$| # .*$")  # beside a command


def every_command(page: str) -> list[str]:
    """Return the commands of a page in its blocks for a shell, fenced or indented, without remarks."""
    text = re.sub(r"[ \t]*\\\n\s*", " ", (REPOSITORY / page).read_text(encoding="utf-8"))
    found, fence = [], None
    for line in text.splitlines():
        if line.startswith("```"):
            fence = line.removeprefix("```") if fence is None else None
        elif (fence or "sh").startswith("sh") and (fence is not None or line.startswith("    ")):
            command = REMARK.sub("", line.strip())
            if RUNS_SOMETHING.search(command) and not command.startswith("#"):
                found.append(command.replace(".venv/bin/", ""))
    return found


def shortened(command: str) -> str:
    """Return a command that trains in two steps, an ablation of one seed, what the command trains in full."""
    command = command.replace(".venv/bin/", "")
    for verb, settings in (("train", "max_steps=2"), ("ablate", "set.max_steps=2 seeds=[1]")):
        if command.startswith(f"attnlab {verb} "):
            return command.replace(" --out", f" {settings} --out")
    return command


def checkout(page: str, copy: Path) -> Path:
    """Copy what a guide touches into a folder, with the files that it says to write."""
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("custom_attention", "pipelines", "configs", "tests"):
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=ignored)
    shutil.copy(REPOSITORY / "pyproject.toml", copy)
    for block in blocks(page):
        if block.file is not None:
            assert not (REPOSITORY / block.file).exists(), f"{page}: {block.file} would overwrite a real file"
            (copy / block.file).parent.mkdir(exist_ok=True)
            (copy / block.file).write_text(block.text, encoding="utf-8")
    return copy


def run(folder: Path, command: str, *more_paths: Path) -> str:
    """Run a command in a checkout, whose modules come first, and return its output."""
    for name, real in COMMAND.items():
        command = re.sub(rf"(^|\s){name} ", rf"\g<1>{real} ", command, count=1)
    path = os.pathsep.join(map(str, (folder, *more_paths)))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout
