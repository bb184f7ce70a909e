"""The command `attnlab verify`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="the folder of an ablation or of a run")


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.actions.verify import verify_command

    verify_command(arguments.folder)


COMMAND = Command(
    "verify",
    "compute every number of a report again, check every file",
    _arguments,
    _run,
    "attnlab verify runs/quickstart",
)
