"""The command `attnlab ablate`."""

from __future__ import annotations

import argparse
from typing import get_args

from pipelines.cli.command import (
    Command,
    Ended,
    add_expect,
    add_json,
    add_settings,
    count,
    judged,
    one_ablation,
    out_folder,
)
from pipelines.config.executor_names import ExecutorName
from pipelines.distributed.stop import leaving_at_once
from pipelines.errors import UserError


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    parser.add_argument("--out", metavar="DIR", help="folder of the report; default: runs/<name of the file>")
    parser.add_argument(
        "--jobs",
        type=count,
        metavar="N",
        help="runs side by side; default: one per GPU, or one per core without GPUs",
    )
    parser.add_argument(
        "--executor",
        choices=get_args(ExecutorName),
        help="where the runs are made; default: the executor in the file",
    )
    parser.add_argument("--fresh", action="store_true", help="run everything again, in new run folders")
    parser.add_argument("--dry-run", action="store_true", help="print what would be run, and stop")
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="write the plan but run nothing; print a command per run, or the one of the executor",
    )
    add_expect(parser)
    add_json(parser)


def _run(arguments: argparse.Namespace) -> Ended | None:
    for option in ("dry_run", "prepare"):
        if getattr(arguments, option) and (arguments.json or arguments.expect):
            what = "there is no result yet, so --json and --expect have none to tell"
            raise UserError(f"--{option.replace('_', '-')}", what, accepted="leave them out")
    config, file = one_ablation("ablate", arguments.settings)
    out = out_folder(arguments.out, [file])
    with leaving_at_once():  # the imports below take seconds, in which a signal may come
        from pipelines.actions.ablate import ablate_command

        found = ablate_command(
            config,
            out,
            jobs=arguments.jobs,
            executor=arguments.executor,
            fresh=arguments.fresh,
            dry_run=arguments.dry_run,
            prepare=arguments.prepare,
            expect=arguments.expect,
        )
    return None if found is None else judged(found)


COMMAND = Command(
    "ablate",
    "train every arm with every seed, compare the arms in pairs, write a report",
    _arguments,
    _run,
    "attnlab ablate configs/quickstart.yaml --out runs/quickstart",
)
