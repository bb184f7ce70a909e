"""The command `attnlab plan`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command, Ended, add_json, add_settings, one_ablation, out_folder


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    parser.add_argument(
        "--pilot",
        metavar="DIR",
        help="folder of an ablation with finished runs; default: runs/<name of the file>",
    )

    add_json(parser)


def _run(arguments: argparse.Namespace) -> Ended:
    config, file = one_ablation("plan", arguments.settings)
    pilot = arguments.pilot or out_folder(
        None, [file], message="looking for a pilot in {} (--pilot names another)"
    )
    from pipelines.actions.plan import plan_command

    return Ended(plan_command(config, pilot))


COMMAND = Command(
    "plan",
    "estimate from the runs of a pilot how many seeds and examples an ablation needs",
    _arguments,
    _run,
    "attnlab plan my.yaml --pilot runs/pilot",
)
