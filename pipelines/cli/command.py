"""The definition of a command, and the arguments that several commands share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.comparison.expectation import EXPECTED, STATUS
from pipelines.errors import UserError
from pipelines.shown import printable

if TYPE_CHECKING:
    from pipelines.actions.answers import Judged
    from pipelines.config.load import AblationConfig


MOST_BYTES = 255  # of the name of a file or folder, on every usual file system


@dataclass(frozen=True)
class Command:
    """A command: its name, its line in the help, its arguments and the function that runs it."""

    name: str
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | Ended | None]  # the exit status; None is 0
    example: str


@dataclass(frozen=True)
class Ended:
    """How a command ended that answers to programs: its result (`actions/answers/`) and its status."""

    result: object
    status: int = 0


@dataclass(frozen=True)
class Ending:
    """How a command ended: its exit status, what went wrong, and what it answers to programs."""

    status: int
    sentences: Sequence[str] = ()
    result: Any = None


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the positional arguments of a command that reads YAML files."""
    parser.add_argument(
        "settings",
        nargs="+",
        metavar="FILE|key=value",
        help="YAML files, merged left to right, then key.path=value overrides",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`; `cli/as_json.py` prints the object."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout and all words on stderr"
    )


def add_expect(parser: argparse.ArgumentParser) -> None:
    """Add `--expect`, which makes a verdict the exit status."""
    parser.add_argument(
        "--expect",
        choices=EXPECTED,
        help="exit with 0 if every primary comparison settles this in favour, 10 if one settles it against, "
        "11 if it is not settled",
    )


def judged(result: Judged) -> Ended:
    """Return the end of a command that judges: its status is that of what was expected."""
    return Ended(result, STATUS[result.outcome] if result.outcome is not None else 0)


def count(text: str) -> int:
    """Parse an argument that must be a positive whole number."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more (got {text!r})")
    return int(text)


def files_and_overrides(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate YAML files from overrides: an override contains `=` and is not an existing file."""
    overrides = [text for text in settings if "=" in text and not os.path.exists(text)]
    return [text for text in settings if text not in overrides], overrides


def run_settings(settings: Sequence[str], advice: str) -> tuple[list[str], list[str]]:
    """Return the files and overrides of one run.

    Args:
        advice: what to do instead if a file is an ablation, with `{}` for the file.

    Raises:
        UserError: a file is an ablation.
    """
    from pipelines.config.load import is_ablation

    files, overrides = files_and_overrides(settings)
    for file in files:
        if is_ablation(file):
            raise UserError(file, "is an ablation, not a run", accepted=advice.format(file))
    return files, overrides


def one_ablation(command: str, settings: Sequence[str]) -> tuple[AblationConfig, str]:
    """Load the one ablation among the arguments of a command; return it with its file.

    Raises:
        UserError: there is not exactly one file, or it is not an ablation.
    """
    from pipelines.config.load import is_ablation, load_ablation, replacements

    files, overrides = files_and_overrides(settings)
    if len(files) != 1:
        raise UserError(command, "takes one ablation file", f"{len(files)} files")
    if not is_ablation(files[0]):
        raise UserError(
            files[0], "is not an ablation: it has no arms", accepted="use attnlab train for one run"
        )
    config = load_ablation(files[0], overrides)
    for line in replacements(files[0], overrides):
        print(printable(line), file=sys.stderr)
    return config, files[0]


def require_folder(chosen: str) -> str:
    """Return a folder that the user names; refuse what cannot be one, before the work that it would hold.

    Raises:
        UserError: it is empty, too long, a file, or lies in a file or behind a link to nowhere.
    """
    if not chosen:
        raise UserError("--out", "is empty", accepted="name a folder")
    if any(len(os.fsencode(part)) > MOST_BYTES for part in chosen.split(os.sep)):
        what = f"the name of a folder has more than {MOST_BYTES} bytes"
        raise UserError("--out", what, chosen, "choose a shorter one")
    nearest = next((path for path in (Path(chosen), *Path(chosen).parents) if os.path.lexists(path)), None)
    if nearest is not None and not nearest.is_dir():
        what = "leads to no folder" if nearest.is_symlink() else "is a file, and a folder is needed"
        raise UserError("--out", what, str(nearest), "choose another")
    return chosen


def out_folder(
    chosen: str | None, files: Sequence[str], message: str = "writing to {} (--out chooses another folder)"
) -> str:
    """Return the `chosen` folder; None: runs/<name of the first file>, which is printed in `message`."""
    if chosen is not None:
        return require_folder(chosen)
    if not files:
        raise UserError("--out", "no file gives the folder its name", accepted="write --out DIR")
    name = os.path.splitext(os.path.basename(files[0]))[0]
    out = os.path.join("runs", name)
    print(printable(message.format(out)), file=sys.stderr)
    return out
