"""The command `attnlab init`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default="ner", help="the task (attnlab ls tasks); default ner")
    parser.add_argument("--model", help="bert, gpt2, t5, vit, ast, patchtst; default: the first that can")


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.actions.init import starter

    print(starter(arguments.task, arguments.model), end="")


COMMAND = Command(
    "init",
    "print a commented YAML file to start from",
    _arguments,
    _run,
    "attnlab init --task ner --model bert > my.yaml",
)
