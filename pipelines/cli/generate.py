"""The command `attnlab generate`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command, count


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="folder of a finished run, or hub:ORG/NAME")
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="TEXT",
        help="beginning of a text; can be given several times",
    )
    parser.add_argument(
        "--input",
        metavar="FILE|-",
        help="more prompts: a data file, or one prompt per line; - reads standard input",
    )
    parser.add_argument("--samples", type=count, default=1, metavar="N", help="texts per prompt; default: 1")
    parser.add_argument(
        "--max-new-tokens", type=count, default=100, metavar="N", help="most tokens of a text; default: 100"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="divides the logits; 0: always the most probable token; default: 1",
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="sample from the most probable tokens with this total probability; default: 1",
    )
    parser.add_argument(
        "--top-k", type=count, metavar="K", help="sample from the K most probable tokens; default: all"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the sampling; default: 1")
    parser.add_argument(
        "--out", metavar="FILE", help="write JSON lines to this file; default: print the texts"
    )


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.runs.finished import require_finished

    require_finished(arguments.folder)
    from pipelines.actions.generate import Sampling, generate_command

    generate_command(
        arguments.folder,
        arguments.prompt,
        arguments.input,
        Sampling(arguments.max_new_tokens, arguments.temperature, arguments.top_p, arguments.top_k or 0),
        count=arguments.samples,
        seed=arguments.seed,
        out=arguments.out,
    )


COMMAND = Command(
    "generate",
    "generate texts with the language model of a finished run",
    _arguments,
    _run,
    'attnlab generate runs/shakespeare --prompt "KING HENRY:" --samples 3',
)
