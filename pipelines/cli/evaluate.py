"""The command `attnlab evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.cli.command import Command, run_settings

if TYPE_CHECKING:
    from pipelines.config.load import RunConfig


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "settings",
        nargs="+",
        metavar="RUN|FILE|key=value",
        help="folder of a finished run, or hub:ORG/NAME; or run files, to score their pretrained model",
    )
    parser.add_argument(
        "--data", metavar="FILE", help="score this file; it has the columns of the run's data"
    )
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        help="split of the run's data; default: test if there is one, else validation",
    )
    parser.add_argument("--predictions", metavar="FILE", help="write one JSON line per example")


def _run(arguments: argparse.Namespace) -> None:
    source = _run_or_config(arguments.settings)
    from pipelines.actions.evaluate import evaluate_command

    evaluate_command(source, arguments.data, arguments.split, arguments.predictions)


def _run_or_config(settings: Sequence[str]) -> str | RunConfig:
    """Return the folder or address of a run, or the configuration that YAML files give."""
    if len(settings) == 1 and not settings[0].endswith((".yaml", ".yml")):
        from pipelines.runs.finished import require_finished

        require_finished(settings[0])
        return settings[0]
    from pipelines.config.load import load_run

    return load_run(*run_settings(settings, advice="name one of its runs"))


COMMAND = Command(
    "evaluate",
    "score a finished run, or a pretrained model, on a split or another file",
    _arguments,
    _run,
    "attnlab evaluate runs/two --split validation",
)
