"""The command `attnlab run-cell`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder of an ablation, here or at a storage URL")
    parser.add_argument(
        "name", metavar="RUN", help="the run: its folder's name in cells/, or the beginning of it"
    )


def _run(arguments: argparse.Namespace) -> int:
    from pipelines.actions.run_cell import run_cell_command

    return run_cell_command(arguments.folder, arguments.name)


COMMAND = Command(
    "run-cell",
    "make one run of an ablation, from any scheduler; it is safe to call it again",
    _arguments,
    _run,
    "attnlab run-cell runs/quickstart 3f9a",
)
