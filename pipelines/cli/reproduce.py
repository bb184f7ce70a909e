"""The command `attnlab reproduce`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command, count


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="the folder of a finished run or of an ablation")
    parser.add_argument("--out", metavar="DIR", help="where to run it again; default <DIR>-reproduced")
    parser.add_argument(
        "--jobs", type=count, metavar="N", help="runs side by side; default: one per GPU, else per core"
    )


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.actions.reproduce import reproduce_command

    reproduce_command(arguments.folder, arguments.out, arguments.jobs)


COMMAND = Command(
    "reproduce",
    "run a run or an ablation again and say what differs",
    _arguments,
    _run,
    "attnlab reproduce runs/quickstart",
)
