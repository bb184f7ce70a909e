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


def checkout(page: str, copy: Path) -> Path:
    """Copy what a guide touches into a folder, with the files that it says to write."""
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("custom_attention", "pipelines", "configs", "tests"):
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=ignored)
    shutil.copy(REPOSITORY / "pyproject.toml", copy)
    for block in blocks(page):
        if block.file is not None:
            assert not (REPOSITORY / block.file).exists(), f"{page}: {block.file} would overwrite a real file"
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
