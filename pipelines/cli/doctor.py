"""The command `attnlab doctor`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: it looks at this machine."""


def _run(arguments: argparse.Namespace) -> int:
    from pipelines.actions.doctor import doctor_command

    return doctor_command()


COMMAND = Command(
    "doctor",
    "show versions, devices, caches and what is missing on this machine; no network",
    _arguments,
    _run,
    "attnlab doctor",
)
