"""The command `attnlab plan`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command, add_settings, out_folder, the_ablation


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    parser.add_argument("--pilot", metavar="DIR", help="an ablation with finished runs; default runs/<file>")


def _run(arguments: argparse.Namespace) -> None:
    config, file = the_ablation("plan", arguments.settings)
    pilot = arguments.pilot or out_folder(
        None, [file], say="looking for a pilot in {} (--pilot names another)"
    )
    from pipelines.actions.plan import plan_command

    plan_command(config, pilot)


COMMAND = Command(
    "plan",
    "say how many seeds and examples an ablation needs, by a pilot's runs",
    _arguments,
    _run,
    "attnlab plan my.yaml --pilot runs/pilot",
)
