"""The command `attnlab ls`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("variants", "tasks", "metrics", "corpora", "configs", "runs"))
    parser.add_argument(
        "folder",
        nargs="?",
        help="for configs and runs: the folder to search; default: configs and those of attnlab, or runs",
    )


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.actions.ls import ls_command

    ls_command(arguments.what, arguments.folder)


COMMAND = Command(
    "ls", "list variants, tasks, metrics, corpora, configs or runs", _arguments, _run, "attnlab ls variants"
)
