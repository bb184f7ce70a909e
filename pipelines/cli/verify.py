"""The command `attnlab verify`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder of an ablation or of a run, or hub:ORG/NAME")


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.actions.verify import verify_command

    verify_command(arguments.folder)


COMMAND = Command(
    "verify",
    "check every file of a run or an ablation, and compute every number of its report again",
    _arguments,
    _run,
    "attnlab verify runs/quickstart",
)
