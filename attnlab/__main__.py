"""`attnlab` and `python -m attnlab`: start the command with the installed packages."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line; a folder `pipelines/` of the working folder never stands in for ours."""
    put_working_folder_last()
    from pipelines.cli.main import main as command

    return command()


def put_working_folder_last() -> None:
    """Move the working folder, which holds the user's own variants, to the end of the search path."""
    try:
        here = os.path.realpath(os.getcwd())
    except FileNotFoundError:  # it was removed, which the command tells
        return
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or ".") != here] + [here]


if __name__ == "__main__":
    sys.exit(main())
