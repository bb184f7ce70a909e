"""The command `attnlab push`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder of a finished run or of an ablation")
    parser.add_argument("repo", metavar="ORG/NAME", help="repository; it is created if it does not exist")
    parser.add_argument(
        "--private", action="store_true", help="create it as private; an existing public one is refused"
    )
    parser.add_argument("--revision", metavar="R", default="main", help="branch; default: main")
    parser.add_argument(
        "--license",
        metavar="ID",
        help="license of the model, such as apache-2.0; default: that of the base model",
    )
    parser.add_argument("--data-license", metavar="ID", help="license of the data, for the model card")
    parser.add_argument(
        "--dry-run", action="store_true", help="prepare and check everything, but send nothing"
    )


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.publish.push import push_command
    from pipelines.publish.staging import PushRequest

    asked = {
        name: getattr(arguments, name) for name in ("repo", "revision", "private", "license", "data_license")
    }
    push_command(arguments.folder, PushRequest(**asked), dry_run=arguments.dry_run)


COMMAND = Command(
    "push",
    "upload a run or an ablation to the Hub, with a model card and a check that it loads",
    _arguments,
    _run,
    "attnlab push runs/two ORG/NAME --dry-run",
)
