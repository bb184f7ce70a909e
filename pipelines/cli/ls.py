"""The command `attnlab ls`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    kinds = ("variants", "tasks", "metrics", "corpora", "configs", "papers", "runs")
    parser.add_argument("what", choices=kinds)
    parser.add_argument(
        "folder",
        nargs="?",
        help="for configs and runs: the folder to search; default: configs and those of attnlab, or runs",
    )


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.actions.ls import ls_command

    ls_command(arguments.what, arguments.folder)


MEANING = "list variants, tasks, metrics, corpora, configs, papers or runs"
COMMAND = Command("ls", MEANING, _arguments, _run, "attnlab ls variants")
