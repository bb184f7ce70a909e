"""The command `attnlab init`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command
from pipelines.errors import UserError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task", help="attnlab ls tasks lists them; default: the one that fits --data, else ner"
    )
    parser.add_argument(
        "--model",
        metavar="NAME|FOLDER|HUB_ID",
        help="bert, gpt2, t5, vit, ast, patchtst (small, from scratch), a folder or a model of the Hub; "
        "default: the first small one that fits the task",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        default=(),
        metavar="FILE",
        help="files to learn from (train, validation, test): decide task, columns, splits and lengths",
    )
    parser.add_argument("--ablation", action="store_true", help="write an ablation: arms, seeds, margin")
    parser.add_argument("--from", dest="preset", metavar="NAME", help="print a config of attnlab ls configs")


def _run(arguments: argparse.Namespace) -> None:
    if arguments.preset is not None:
        others = [f"--{name}" for name in ("task", "model", "data", "ablation") if getattr(arguments, name)]
        if others:
            fix = "leave it out, and change the file that is printed"
            raise UserError(others[0], "cannot be used with --from", accepted=fix)
        from pipelines.actions.presets import preset_command

        preset_command(arguments.preset)
        return
    from pipelines.actions.init import init_command

    init_command(arguments.task, arguments.model, arguments.data, ablation=arguments.ablation)


COMMAND = Command(
    "init",
    "print a YAML file with every setting explained",
    _arguments,
    _run,
    "attnlab init --data train.csv > my.yaml",
)
