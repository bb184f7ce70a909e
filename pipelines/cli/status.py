"""The command `attnlab status`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command, Ended, add_json
from pipelines.errors import UserError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder of an ablation")
    parser.add_argument(
        "--watch", action="store_true", help="keep the table up to date until every run has ended"
    )
    parser.add_argument(
        "--unused", action="store_true", help="list run folders that no ablation beside DIR uses"
    )
    parser.add_argument("--delete", action="store_true", help="with --unused: delete these folders")
    parser.add_argument(
        "--cancel", action="store_true", help="let all runs, on any machine, save a checkpoint and exit"
    )

    add_json(parser)


def _run(arguments: argparse.Namespace) -> Ended:
    if arguments.watch and arguments.json:
        fix = "ask again without --watch"
        raise UserError("--watch", "a table on the screen has no JSON", accepted=fix)
    from pipelines.actions.status import status_command

    found = status_command(
        arguments.folder,
        watch=arguments.watch,
        cancel=arguments.cancel,
        unused=arguments.unused,
        delete=arguments.delete,
    )
    return Ended(found)


COMMAND = Command(
    "status",
    "show the state of every run of an ablation; cancel it; find unused run folders",
    _arguments,
    _run,
    "attnlab status runs/quickstart --watch",
)
