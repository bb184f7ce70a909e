"""The command `attnlab train`."""

from __future__ import annotations

import argparse
import os
import shutil

from pipelines.cli.command import Command, add_settings, count, out_folder, run_settings
from pipelines.distributed.stop import leaving_at_once
from pipelines.errors import UserError
from pipelines.storage.names import LOCK, MANIFEST, RUN


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    parser.add_argument("--out", metavar="DIR", help="the run folder; default runs/<first file>")
    parser.add_argument("--fresh", action="store_true", help="begin again even if the folder holds this run")
    parser.add_argument("--processes", type=count, metavar="N", help="ranks on this machine; default: 1")


def _run(arguments: argparse.Namespace) -> int:
    from pipelines.config.load import load_run

    files, overrides = run_settings(arguments.settings, instead="use attnlab ablate {}")
    if arguments.processes is not None:
        overrides.append(f"processes={arguments.processes}")
    config = load_run(files, overrides)
    out = out_folder(arguments.out, files)
    from pipelines.distributed.launch import adopt_slurm_rank, is_rank, launch
    from pipelines.models.starting_point import pins

    adopt_slurm_rank()
    if arguments.fresh and not is_rank():
        _remove_run(out)
    if config.processes > 1 and not is_rank():
        # Every rank reads the same settings again; --fresh must not happen twice, nor may a branch of the
        # Hub that moves meanwhile mean two models.
        again = ["train", *files, *overrides, *pins(config), "--out", out]
        return launch(again, processes=config.processes, threads=config.threads)
    with leaving_at_once():
        import pipelines.runs.preload  # noqa: F401
        from pipelines.actions.train import train_command

        train_command(config, out)
    return 0


def _remove_run(out: str) -> None:
    """Make way for `--fresh`: remove a run folder, and nothing that is not one."""
    there = os.listdir(out) if os.path.isdir(out) else []
    if there and not {LOCK, RUN, MANIFEST}.intersection(there):
        raise UserError("--fresh", f"{out} is no run folder, so it stays", accepted="choose another --out")
    shutil.rmtree(out, ignore_errors=True)


COMMAND = Command(
    "train", "train and score one run", _arguments, _run, "attnlab train my.yaml seed=2 --out runs/two"
)
