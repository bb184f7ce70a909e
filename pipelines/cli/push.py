"""The command `attnlab push`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="the folder of a finished run or of an ablation")
    parser.add_argument("repo", metavar="ORG/NAME", help="the repository; made if it is not there")
    parser.add_argument("--private", action="store_true", help="make it private, and refuse a public one")
    parser.add_argument("--revision", metavar="R", default="main", help="the branch; default main")
    parser.add_argument(
        "--license", metavar="ID", help="of the model, such as apache-2.0; default: the base's"
    )
    parser.add_argument("--data-license", metavar="ID", help="of the data, for the card")
    parser.add_argument("--dry-run", action="store_true", help="make it ready and prove it; send nothing")


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.publish.push import push_command
    from pipelines.publish.staging import PushRequest

    asked = {
        name: getattr(arguments, name) for name in ("repo", "revision", "private", "license", "data_license")
    }
    push_command(arguments.folder, PushRequest(**asked), dry_run=arguments.dry_run)


COMMAND = Command(
    "push",
    "put a run or an ablation on the Hub, proven and with a card",
    _arguments,
    _run,
    "attnlab push runs/two ORG/NAME --dry-run",
)
