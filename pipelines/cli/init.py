"""The command `attnlab init`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default="ner", help="task (attnlab ls tasks lists them); default: ner")
    parser.add_argument(
        "--model", help="bert, gpt2, t5, vit, ast or patchtst; default: the first that fits the task"
    )


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.actions.init import init_command

    init_command(arguments.task, arguments.model)


COMMAND = Command(
    "init",
    "print a YAML file with every setting explained",
    _arguments,
    _run,
    "attnlab init --task ner --model bert > my.yaml",
)
