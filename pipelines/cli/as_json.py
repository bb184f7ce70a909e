"""`--json`: one object on stdout, also where a command fails; everything else is printed on stderr."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from pipelines.cli import last_net
from pipelines.shown import printable

if TYPE_CHECKING:
    from pipelines.cli.command import Ending

Parse = Callable[[Sequence[str]], argparse.Namespace]


def answer(
    words: Sequence[str], parse: Parse, ended: Callable[[Callable[[], argparse.Namespace]], Ending]
) -> int:
    """Run a command, print its object, and return its exit status."""
    from importlib.metadata import version

    from pipelines.actions.answers import CommandAnswer, plain

    command = next((word for word in words if not word.startswith("-")), None)
    with ExitStack() as stack:

        def parsed() -> argparse.Namespace:
            arguments = parse(words)  # prints nothing but the help that was asked for
            stack.enter_context(_words_on_stderr())
            return arguments

        try:
            ending = ended(parsed)
            status, errors, result = ending.status, list(ending.sentences), ending.result
            for sentence in errors:
                print(printable(sentence), file=sys.stderr)
        except SystemExit as error:
            if not error.code:  # --help
                raise
            status, errors, result = int(error.code), [getattr(error, "message", "wrong arguments")], None
    found = CommandAnswer(
        attnlab=version("attnlab"),
        command=command,
        status=status,
        errors=errors,
        result=result,
    )
    try:
        print(json.dumps(_shown(plain(found), printable), allow_nan=False), flush=True)
    except OSError as error:  # a full disk, or nobody reads it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(printable(last_net.sentence(error)), file=sys.stderr)
            return 1
    return status


def _shown(value: Any, show: Callable[[str], str]) -> Any:
    """Return a JSON value whose texts are shown by the rule for terminals: secrets masked."""
    if isinstance(value, dict):
        return {name: _shown(one, show) for name, one in value.items()}
    if isinstance(value, list):
        return [_shown(one, show) for one in value]
    return show(value) if isinstance(value, str) else value


@contextmanager
def _words_on_stderr() -> Iterator[None]:
    """Let whatever is printed on stdout, by child processes too, go to stderr."""
    sys.stdout.flush()
    is_real = sys.stdout is sys.__stdout__
    saved = os.dup(1) if is_real else None
    try:
        if saved is not None:
            os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)
