"""Say whether a module is installed, and not only a file of the working folder."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from pipelines.errors import UserError


def require_installed(variants: Iterable[str], where: str) -> None:
    """Refuse variants of a downloaded record whose code would come from the working folder.

    Whoever pushed the record would choose which of the user's files are run. Nothing is imported here.

    Args:
        variants: names, such as "gate" or "package.module:Class".
        where: the address of the record.

    Raises:
        UserError: it names the variant.
    """
    for name in variants:
        root = name.partition(":")[0].partition(".")[0]
        if ":" in name and not _is_installed(root):
            what = "names a variant whose module is not installed; one of the working folder is not run"
            fix = "read its code, install it as a package, and repeat this"
            raise UserError(where, what, name, fix)


def _is_installed(module: str) -> bool:
    here = Path.cwd().resolve()
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    found, chosen = _spec(module, elsewhere), _spec(module, sys.path)
    return found is not None and chosen is not None and found.origin == chosen.origin


def _spec(module: str, path: list[str]) -> ModuleSpec | None:
    return PathFinder.find_spec(module, path)
