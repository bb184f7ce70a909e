"""The command `attnlab show`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="folder of a finished run, or hub:ORG/NAME")
    parser.add_argument(
        "--input",
        required=True,
        metavar="LINE|FILE",
        help="a line of text, a JSON object, or a file with one input; file.csv[2:3] is one row of a file",
    )
    parser.add_argument(
        "--out", default="attention", metavar="NAME", help="writes NAME.html and NAME.svg; default: attention"
    )


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.runs.finished import require_finished

    require_finished(arguments.folder)
    from pipelines.actions.show import show_command

    show_command(arguments.folder, arguments.input, arguments.out)


COMMAND = Command(
    "show",
    "draw the attention of one input by layer and head, beside stock attention",
    _arguments,
    _run,
    'attnlab show runs/one --input "the doctor of Jordan slept ."',
)
