"""The command `attnlab fetch`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command, add_settings, files_and_overrides


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)


def _run(arguments: argparse.Namespace) -> None:
    files, overrides = files_and_overrides(arguments.settings)
    from pipelines.actions.fetch import fetch_command

    fetch_command(files, overrides)


COMMAND = Command(
    "fetch",
    "download the data sets and models of YAML files into a mirror, for machines without a network",
    _arguments,
    _run,
    "ATTNLAB_MIRROR=/data/mirror attnlab fetch configs/task/qa-squad.yaml configs/model/minilm.yaml",
)
