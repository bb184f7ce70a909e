"""The command `attnlab predict`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="folder of a finished run, or hub:ORG/NAME")
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE|-",
        help="data file, or lines of text or JSON; - reads standard input",
    )
    parser.add_argument("--out", metavar="FILE", help="write to this file; default: standard output")


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.runs.finished import require_finished

    require_finished(arguments.folder)
    from pipelines.actions.predict import predict_command

    predict_command(arguments.folder, arguments.input, arguments.out)


COMMAND = Command(
    "predict",
    "write the predictions of a finished run, one JSON line per input",
    _arguments,
    _run,
    "attnlab predict runs/two --input lines.txt",
)
