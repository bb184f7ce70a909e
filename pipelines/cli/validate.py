"""The command `attnlab validate`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command, add_settings, files_and_overrides


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.actions.validate import validate_command

    validate_command(*files_and_overrides(arguments.settings))


COMMAND = Command(
    "validate",
    "check run or ablation files and describe what they run",
    _arguments,
    _run,
    "attnlab validate configs/quickstart.yaml",
)
