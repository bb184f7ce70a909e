"""The command of a child process that imports from where this process does."""

from __future__ import annotations

import sys


def python_module(name: str) -> list[str]:
    """Return the command that runs a module; its arguments follow.

    `python -m` would look into the working folder first, where a folder of the user may have the name of one
    of our packages.
    """
    run = f"import runpy; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"
    return [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {run}"]
