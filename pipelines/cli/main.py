"""The command `attnlab`: the list of commands, and the exit status of each result and error.

Only the standard library is imported here, so that `attnlab --help` is fast and no torch is loaded to check
a YAML file. Each command imports the rest when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from pipelines.cli import (
    ablate,
    check_variant,
    compare,
    doctor,
    evaluate,
    fetch,
    fold,
    generate,
    init,
    inspect,
    last_net,
    ls,
    plan,
    predict,
    push,
    report,
    reproduce,
    run_cell,
    show,
    status,
    train,
    validate,
    verify,
)
from pipelines.cli.command import Ended, Ending
from pipelines.cli.surroundings import open_closed_streams, working_folder
from pipelines.errors import Interrupted, RunFailed, UserError, UserErrors, raise_all
from pipelines.registry.own_code import variant_failure
from pipelines.shown import printable

EXIT_FAILED, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 75
MOST_LINES = 20  # of errors shown at once: one screen

COMMANDS = tuple(
    module.COMMAND
    for module in (
        init,
        ls,
        check_variant,
        doctor,
        validate,
        fetch,
        inspect,
        train,
        ablate,
        status,
        plan,
        report,
        compare,
        verify,
        reproduce,
        evaluate,
        predict,
        show,
        generate,
        fold,
        push,
        run_cell,
    )
)


FIRST = (init, validate, train, ablate, report)  # the commands to start with


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0: success. 1: a run failed. 2: the user can correct the error. 75: stopped, and it can be resumed. 130:
    stopped by Ctrl-C while nothing could be saved. With `--expect` also 10 and 11 (docs/json.md).
    """
    open_closed_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    if "--json" in words:
        from pipelines.cli.as_json import answer

        return answer(words, _parse, ended)
    return _say(ended(lambda: _parse(words)))


def ended(parse: Callable[[], argparse.Namespace]) -> Ending:
    """Run the command that `parse` returns, and turn every error into its sentence and status."""
    try:
        arguments = parse()
        found = arguments.run(arguments)
        return Ending(found.status, result=found.result) if isinstance(found, Ended) else Ending(found or 0)
    except UserErrors as error:
        return Ending(EXIT_USER, [one.sentence() for one in error.errors])
    except UserError as error:
        return Ending(EXIT_USER, [error.sentence()])
    except RunFailed as error:
        return Ending(EXIT_FAILED, [str(error)], error.result)
    except Interrupted as error:  # all ranks stop together; only the first one prints
        from pipelines.distributed.launch import is_first_rank

        return Ending(EXIT_INTERRUPTED, [str(error)] if is_first_rank() else [])
    except KeyboardInterrupt:
        return Ending(130, ["interrupted"])
    except BrokenPipeError:  # `attnlab ls variants | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except last_net.CAUGHT as error:
        return Ending(EXIT_FAILED, [variant_failure(error) or last_net.sentence(error)])
    except Exception as error:
        said = variant_failure(error)
        if said is None:
            raise
        return Ending(EXIT_FAILED, [said])
    return Ending(0)


def _first_words(_: argparse.Namespace) -> int:
    """Print the commands to start with; nothing was asked for, so the request is not one."""
    print("Paired attention ablations for BERT, GPT-2 and T5 families. To start with:\n")
    for command in (module.COMMAND for module in FIRST):
        print(printable(f"  {command.name:<9} {command.summary}\n            {command.example}"))
    print("\nattnlab --help lists all commands; attnlab COMMAND --help explains one.")
    return EXIT_USER


def _say(ending: Ending) -> int:
    for sentence in ending.sentences[:MOST_LINES]:
        print(printable(sentence), file=sys.stderr)
    if len(ending.sentences) > MOST_LINES:
        print(printable(f"... and {len(ending.sentences) - MOST_LINES} more"), file=sys.stderr)
    return ending.status


def _parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; overrides may also follow options, which argparse alone would refuse."""
    if (here := working_folder()) not in sys.path:  # the user's own variants are imported from here
        sys.path.append(here)
    parser = _parser()
    arguments, rest = parser.parse_known_args(words)
    unknown = [text for text in rest if text.startswith("-") or not hasattr(arguments, "settings")]
    if unknown and hasattr(arguments, "settings"):
        from pipelines.cli.settings_as_options import wrong_options

        raise_all(wrong_options(words, unknown, [*arguments.settings, *rest]))
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)}")
    if rest:
        arguments.settings += rest
    return arguments


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        try:
            super().error(printable(message))
        except SystemExit as error:
            raise WrongArguments(error.code, message) from None


class WrongArguments(SystemExit):
    """What argparse cannot read; it has printed the message."""

    def __init__(self, code: object, message: str) -> None:
        super().__init__(code)
        self.message = message


class _Version(argparse.Action):
    """Print the version; it is read only where it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(printable(f"attnlab {version('attnlab')}"))
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="attnlab",
        description="Paired attention ablations for BERT, GPT-2 and T5 families, configured in YAML.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version of attnlab")
    parser.set_defaults(run=_first_words)  # where no command is named
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        one = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.summary,
            epilog=f"example: {command.example}",
        )
        command.arguments(one)
        one.set_defaults(run=command.run)
    return parser
