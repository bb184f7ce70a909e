"""The command `attnlab train`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command, add_settings, count, out_folder, run_settings


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    parser.add_argument("--out", metavar="DIR", help="run folder; default: runs/<name of the first file>")
    parser.add_argument(
        "--fresh", action="store_true", help="start from the beginning, also if the folder holds this run"
    )
    parser.add_argument(
        "--processes", type=count, metavar="N", help="processes on this machine; default: as configured"
    )


def _run(arguments: argparse.Namespace) -> int:
    from pipelines.actions.train import train_command

    files, overrides = run_settings(arguments.settings, advice="use attnlab ablate {}")
    if arguments.processes is not None:
        overrides.append(f"processes={arguments.processes}")
    return train_command(files, overrides, out_folder(arguments.out, files), fresh=arguments.fresh)


COMMAND = Command(
    "train", "train and score one run", _arguments, _run, "attnlab train my.yaml seed=2 --out runs/two"
)
