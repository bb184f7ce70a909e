"""The command `attnlab verify`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command, Ended, add_json, count
from pipelines.distributed.stop import leaving_at_once


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder of an ablation or of a run, or hub:ORG/NAME")
    parser.add_argument(
        "--replay",
        type=count,
        metavar="N",
        help="also train N runs again, drawn at random, and compare the bits",
    )

    add_json(parser)


def _run(arguments: argparse.Namespace) -> Ended:
    with leaving_at_once():
        from pipelines.actions.verify import verify_command

        return Ended(verify_command(arguments.folder, replay=arguments.replay or 0))


COMMAND = Command(
    "verify",
    "check every file of a run or an ablation, and compute every number of its report again",
    _arguments,
    _run,
    "attnlab verify runs/quickstart",
)
