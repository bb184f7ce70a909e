"""What a command of the table is, and the arguments that several of them share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.errors import UserError

if TYPE_CHECKING:
    from pipelines.config.load import AblationConfig


@dataclass(frozen=True)
class Command:
    """One line of the table: how a command is called, what it says of itself, what it does."""

    name: str
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]  # the exit status; None is 0
    example: str


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The positional arguments of every command that reads YAML."""
    parser.add_argument(
        "settings",
        nargs="+",
        metavar="FILE|key=value",
        help="YAML files, merged left to right, then key.path=value overrides",
    )


def count(text: str) -> int:
    """The type of an argument that counts something."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more (got {text!r})")
    return int(text)


def files_and_overrides(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments of a command: what holds `=` and is no file is an override."""
    overrides = [text for text in settings if "=" in text and not os.path.exists(text)]
    return [text for text in settings if text not in overrides], overrides


def run_settings(settings: Sequence[str], instead: str) -> tuple[list[str], list[str]]:
    """The files and overrides of one run; an ablation among them is refused, with what to do `instead`."""
    from pipelines.config.load import is_ablation

    files, overrides = files_and_overrides(settings)
    for file in files:
        if is_ablation(file):
            raise UserError(file, "is an ablation, not a run", accepted=instead.format(file))
    return files, overrides


def the_ablation(command: str, settings: Sequence[str]) -> tuple[AblationConfig, str]:
    """The one ablation that a command names, and its file."""
    from pipelines.config.load import is_ablation, load_ablation

    files, overrides = files_and_overrides(settings)
    if len(files) != 1:
        raise UserError(command, "takes one ablation file", f"{len(files)} files")
    if not is_ablation(files[0]):
        raise UserError(files[0], "is no ablation: it has no arms", accepted="use attnlab train for one run")
    return load_ablation(files[0], overrides), files[0]


def out_folder(
    chosen: str | None, files: Sequence[str], say: str = "writing to {} (--out chooses another folder)"
) -> str:
    """The folder that was `chosen`, or one under runs/ named after the first file, and said."""
    if chosen:
        return chosen
    name = os.path.splitext(os.path.basename(files[0]))[0]
    out = os.path.join("runs", name)
    print(say.format(out), file=sys.stderr)
    return out
