"""The command `attnlab check-variant`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "variant",
        metavar="VARIANT",
        help="a name, package.module:Class, or with options '{temperature: {per: layer}}'",
    )


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.actions.check_variant import check_variant_command

    check_variant_command(arguments.variant)


COMMAND = Command(
    "check-variant",
    "check a variant on tiny models of every family: exact, causal, cached, trainable, saved",
    _arguments,
    _run,
    "attnlab check-variant my_module:Mine",
)
