"""What a user did that cannot work, said so that they can mend it."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """One thing a user can mend: where it is, what is wrong, what came, and what would be accepted.

    `cli/main.py` alone turns it into text and exit status 2; nothing else prints it.

    Args:
        where: the place a user would open: "my.yaml:12", "train.parquet, row 17", "--jobs".
        what: what is wrong, as a clause without a full stop.
        came: the value that came, shown by `repr` unless it is text already; None leaves it out.
        accepted: what is accepted, or what to do, as a clause without a full stop.
    """

    def __init__(self, where: str, what: str, came: object = None, accepted: str | None = None) -> None:
        self.where, self.what, self.came, self.accepted = where, what, came, accepted
        super().__init__(self.sentence())

    def sentence(self) -> str:
        text = f"{self.where}: {self.what}"
        if self.came is not None:
            text += f" (got {self.came if isinstance(self.came, str) else repr(self.came)})"
        return f"{text}; {self.accepted}." if self.accepted else f"{text}."

    def __reduce__(self):  # exceptions with keyword state cross process borders
        return type(self), (self.where, self.what, self.came, self.accepted)


class UserErrors(UserError):
    """Several `UserError`s found together, so that a file is mended in one go."""

    def __init__(self, errors: Sequence[UserError]) -> None:
        self.errors = tuple(errors)
        first = self.errors[0]
        super().__init__(first.where, first.what, first.came, first.accepted)

    def sentence(self) -> str:
        return "\n".join(error.sentence() for error in self.errors)

    def __reduce__(self):
        return type(self), (self.errors,)


def raise_all(errors: Sequence[UserError]) -> None:
    """Raise what was found: nothing, the one error, or all of them together."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise UserErrors(errors)


def as_clause(error: Exception) -> str:
    """Return a library's message as a clause for `UserError`: one line, no capital, no full stop."""
    text = " ".join(str(error).split()).rstrip(".")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


class RunFailed(Exception):
    """A run that could not go on through no fault of its configuration; exit status 1.

    The message says what is safe on disk and how to go on.
    """


class Interrupted(Exception):
    """A run that stopped because it was asked to, and can be resumed; exit status 75."""
