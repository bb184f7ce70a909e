"""Errors that a user can cause or must know of, and the exit status of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Self

from pipelines.shown import cut, printable

MOST_CHARACTERS = 400  # of a value in a message


class UserError(Exception):
    """An error that the user can correct; exit status 2.

    Only `cli/main.py` prints it.

    Args:
        where: the place to correct: "my.yaml:12", "train.parquet, row 17", "--jobs".
        what: what is wrong, as a clause without a full stop.
        came: the value that was given, shown by `repr` unless it is text; None: it is left out.
        accepted: what is accepted, or what to do, as a clause without a full stop.
    """

    def __init__(self, where: str, what: str, came: object = None, accepted: str | None = None) -> None:
        self.where, self.what, self.came, self.accepted = where, what, came, accepted
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """Return the error as one sentence: where, what is wrong, what came; what is accepted."""
        text = f"{cut(self.where, MOST_CHARACTERS)}: {cut(self.what, 4 * MOST_CHARACTERS)}"
        if self.came is not None:
            came = self.came if isinstance(self.came, str) else repr(self.came)
            text += f" (got {cut(came, MOST_CHARACTERS)})"
        return printable(f"{text}; {self.accepted}." if self.accepted else f"{text}.")

    # By default an exception is pickled by its message alone, and could not be restored in another process.
    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), (self.where, self.what, self.came, self.accepted)


class UserErrors(UserError):
    """Several `UserError`s, shown together so that a user can correct them all at once."""

    def __init__(self, errors: Sequence[UserError]) -> None:
        self.errors = tuple(errors)
        first = self.errors[0]
        super().__init__(first.where, first.what, first.came, first.accepted)

    def sentence(self) -> str:
        """Return the sentences of all errors, one per line."""
        return "\n".join(error.sentence() for error in self.errors)

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), (self.errors,)


def raise_all(errors: Sequence[UserError]) -> None:
    """Raise the one error, or all errors together; do nothing if there is none."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise UserErrors(errors)


def without_values(text: str) -> str:
    """Return sentences of errors without the values in them: those may be rows of data that is not public."""
    text = re.sub(r" \(got .*\)(?=[;.])", "", text, flags=re.DOTALL)
    text = re.sub(r"(?<!\w)(?:'.*?'|\".*?\"|“.*?”)(?!\w)", "…", text, flags=re.DOTALL)
    # An id that is no number may be text of the data.
    text = re.sub(r"((?:^|, )(?:example|row)) (?!\d+:)[^:;]+(?=:)", r"\1 …", text, flags=re.MULTILINE)
    # Of an error that no sentence was written for, its name.
    return re.sub(r"\A(\w+): .* (\(see [\w.]+ beside this\))", r"\1 \2", text, flags=re.DOTALL)


def as_clause(error: Exception) -> str:
    """Return a library's message as a clause for `UserError`: one line, no capital, no full stop."""
    text = " ".join(str(error).split()).rstrip(".")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


class _Printable(Exception):
    def __str__(self) -> str:
        return printable(super().__str__())


class RunFailed(_Printable):
    """A run that could not continue, although its configuration is valid; exit status 1.

    The message says what is safe on disk and how to resume.

    Args:
        result: what the command answers to programs all the same (`actions/answers/`).
    """

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class Interrupted(_Printable):
    """A run that was asked to stop and can be resumed; exit status 75."""
