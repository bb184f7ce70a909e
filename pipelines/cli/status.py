"""The command `attnlab status`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command
from pipelines.errors import UserError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="the folder of an ablation")
    parser.add_argument("--watch", action="store_true", help="keep the table up to date until all is over")
    parser.add_argument(
        "--unused", action="store_true", help="list run folders that no ablation beside it names"
    )
    parser.add_argument("--delete", action="store_true", help="with --unused: remove them")
    parser.add_argument(
        "--cancel", action="store_true", help="have its runs save a checkpoint and leave, wherever they are"
    )


def _run(arguments: argparse.Namespace) -> None:
    if arguments.delete and not arguments.unused:
        raise UserError(
            "--delete", "says nothing without --unused", accepted="attnlab status DIR --unused --delete"
        )
    if arguments.cancel:
        from pipelines.actions.status import cancel_command

        return cancel_command(arguments.folder)
    if arguments.unused:
        from pipelines.actions.clean import unused_command

        return unused_command(arguments.folder, delete=arguments.delete)
    from pipelines.actions.status import status_command

    return status_command(arguments.folder, watch=arguments.watch)


COMMAND = Command(
    "status",
    "show how the runs of an ablation stand, while they work or later",
    _arguments,
    _run,
    "attnlab status runs/quickstart --watch",
)
