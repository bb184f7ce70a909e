"""The command `attnlab compare`."""

from __future__ import annotations

import argparse
import os

from pipelines.cli.command import Command, Ended, add_expect, add_json, judged, out_folder

SETTINGS = ("task.", "data.")  # of which a `key=value` among the sides is a setting


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "settings",
        nargs="+",
        metavar="[NAME=]SIDE|key=value",
        help="two sides or more, the baseline first: a file, a quoted pattern with a file for each seed, "
        "a run folder, hub:ORG/NAME; and settings such as task.target_language=de, data.columns.tags=labels",
    )
    parser.add_argument(
        "--task",
        metavar="NAME",
        help="task whose metrics score predictions, such as ner; with --score a name",
    )
    parser.add_argument(
        "--references", metavar="FILE", help="what predictions are compared with: data of the task"
    )
    parser.add_argument(
        "--score",
        action="append",
        default=[],
        metavar="NAME",
        help="compare a score that the files give for each example; the first of several is primary",
    )
    parser.add_argument("--lower-is-better", action="store_true", help="of --score: it is a loss or an error")
    parser.add_argument("--metric", metavar="NAME", help="primary metric; default: that of the task")
    parser.add_argument(
        "--margin", type=_margin, metavar="X", help="largest difference that does not matter, in its unit"
    )
    parser.add_argument(
        "--split", choices=("test", "validation"), help="of runs: which split; of files: which they are of"
    )
    parser.add_argument("--id", metavar="COLUMN", help="column of the ids, where it has no usual name")
    parser.add_argument("--prediction", metavar="COLUMN", help="column of the predictions, likewise")
    parser.add_argument("--out", metavar="DIR", help="folder of the report; default: runs/compare")
    add_expect(parser)
    add_json(parser)


def _margin(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0 (got {text!r})")
    return value


def _run(arguments: argparse.Namespace) -> Ended:
    settings = [text for text in arguments.settings if _is_setting(text)]
    sides = [text for text in arguments.settings if text not in settings]
    out = out_folder(arguments.out, ["compare"])
    from pipelines.actions.compare import Request, compare_command
    from pipelines.predictions.table import NamedColumns

    request = Request(
        sides=sides,
        task=arguments.task,
        settings=settings,
        references=arguments.references,
        scores=arguments.score,
        lower_is_better=arguments.lower_is_better,
        metric=arguments.metric,
        margin=arguments.margin,
        split=arguments.split,
        names=NamedColumns(arguments.id, arguments.prediction),
    )
    return judged(compare_command(request, out, arguments.expect))


def _is_setting(text: str) -> bool:
    return "=" in text and text.startswith(SETTINGS) and not os.path.exists(text)


COMMAND = Command(
    "compare",
    "compare predictions or scores that others made, with the statistics and the report of an ablation",
    _arguments,
    _run,
    "attnlab compare 'base-*/predictions.txt' 'new-*/predictions.txt' --task ner --references test.conll",
)
