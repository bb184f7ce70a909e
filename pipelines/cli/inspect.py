"""The command `attnlab inspect`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command, add_settings, count, run_settings


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    parser.add_argument("--examples", type=count, default=3, metavar="N", help="inputs to show; default: 3")


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.config.load import load_run

    files, overrides = run_settings(arguments.settings, advice="name the files of one of its cells")
    config = load_run(files, overrides)
    from pipelines.actions.inspect import inspect_command

    inspect_command(config, arguments.examples)


COMMAND = Command(
    "inspect",
    "show the inputs of the model and the cost of training, without training",
    _arguments,
    _run,
    "attnlab inspect my.yaml --examples 5",
)
