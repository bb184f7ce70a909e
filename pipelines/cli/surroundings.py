"""What a shell may have taken away before the command starts: standard streams, the working folder."""

from __future__ import annotations

import os
import sys

from pipelines.errors import UserError


def open_closed_streams() -> None:
    """Open /dev/null in the place of each standard stream that is closed, as by `attnlab ls >&-`.

    The next file that is opened would have its number, and get what child processes print.
    """
    for number, flag in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flag)  # gets the lowest number that is free, which is this one
            os.set_inheritable(number, True)
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  # to the end
            setattr(sys, name, stream)


def working_folder() -> str:
    """Return the working folder.

    Raises:
        UserError: it was removed.
    """
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        what = "was removed after this shell went there"
        raise UserError("working folder", what, accepted="change into a folder that exists") from error
