"""The command `attnlab generate`."""

from __future__ import annotations

import argparse

from pipelines.cli.command import Command, count


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the folder of a finished run, or hub:ORG/NAME")
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="TEXT",
        help="what a text begins with; may be given again",
    )
    parser.add_argument(
        "--input", metavar="FILE|-", help="more prompts: a data file, or lines; - reads stdin"
    )
    parser.add_argument("--samples", type=count, default=1, metavar="N", help="texts per prompt; default 1")
    parser.add_argument(
        "--max-new-tokens", type=count, default=100, metavar="N", help="written at most; default 100"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="0: the likeliest token each time; default 1",
    )
    parser.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="draw among tokens of this joint probability"
    )
    parser.add_argument("--top-k", type=count, metavar="K", help="draw among so many of the likeliest tokens")
    parser.add_argument("--seed", type=int, default=1, help="of the draws; default 1")
    parser.add_argument(
        "--out", metavar="FILE", help="write JSON lines there; default: the texts as they read"
    )


def _run(arguments: argparse.Namespace) -> None:
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
    "let the language model of a finished run write freely",
    _arguments,
    _run,
    'attnlab generate runs/shakespeare --prompt "KING HENRY:" --samples 3',
)
