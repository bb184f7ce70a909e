"""The command `attnlab fold`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="folder of a finished run, or hub:ORG/NAME")
    parser.add_argument("out", metavar="OUT", help="folder to write; it must not exist yet")


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.runs.finished import require_finished

    require_finished(arguments.folder)
    from pipelines.actions.fold import fold_command

    fold_command(arguments.folder, arguments.out)


COMMAND = Command(
    "fold",
    "write a run as a plain transformers checkpoint, with its attention variant in the weights",
    _arguments,
    _run,
    "attnlab fold runs/two plain",
)
