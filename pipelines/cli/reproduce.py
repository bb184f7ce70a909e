"""The command `attnlab reproduce`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command, count, require_folder
from pipelines.distributed.stop import leaving_at_once


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="DIR", help="folder of a finished run or of an ablation, or hub:ORG/NAME"
    )
    parser.add_argument("--out", metavar="DIR", help="where to run it again; default: <DIR>-reproduced")
    parser.add_argument(
        "--jobs",
        type=count,
        metavar="N",
        help="runs side by side; default: one per GPU, or one per core without GPUs",
    )


def _run(arguments: argparse.Namespace) -> None:
    with leaving_at_once():  # as in attnlab ablate
        from pipelines.actions.reproduce import reproduce_command

        out = None if arguments.out is None else require_folder(arguments.out)
        reproduce_command(arguments.folder, out, arguments.jobs)


COMMAND = Command(
    "reproduce",
    "repeat a run or an ablation, and report the differences",
    _arguments,
    _run,
    "attnlab reproduce runs/quickstart",
)
