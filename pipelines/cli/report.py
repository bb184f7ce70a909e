"""The command `attnlab report`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command, Ended, add_expect, add_json, judged, require_folder


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", metavar="DIR", help="folders of ablations")
    parser.add_argument(
        "--out", metavar="DIR", help="where to write; default: the folder itself, if only one is given"
    )

    add_expect(parser)
    add_json(parser)


def _run(arguments: argparse.Namespace) -> Ended:
    from pipelines.actions.report import report_command

    out = None if arguments.out is None else require_folder(arguments.out)
    return judged(report_command(arguments.folders, out, arguments.expect))


COMMAND = Command(
    "report",
    "compute the report again from stored statistics; several ablations give one report",
    _arguments,
    _run,
    "attnlab report runs/bert runs/gpt2 --out runs/both",
)
