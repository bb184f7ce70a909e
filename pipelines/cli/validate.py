"""The command `attnlab validate`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command, add_settings, files_and_overrides


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.actions.validate import summary

    files, overrides = files_and_overrides(arguments.settings)
    print(summary(files, overrides))


COMMAND = Command(
    "validate",
    "check run or ablation files and say what they do",
    _arguments,
    _run,
    "attnlab validate configs/quickstart.yaml",
)
