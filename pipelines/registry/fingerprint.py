"""Fingerprints of source files: hashes of the code without its comments, docstrings and layout."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from pipelines.registry import source
from pipelines.registry.source import OURS, Module

# Checks and messages.
NO_NUMBERS = frozenset(
    {
        "custom_attention.errors",
        "custom_attention.option_types",
        "pipelines.errors",
        "pipelines.registry.option_types",
    }
)
UNREAD_FIELDS = ("ctx", "type_comment")  # one follows from the place in the tree, the other is a comment
INSTALLED = frozenset(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib"))


@cache
def fingerprints(root: str) -> Mapping[str, str]:
    """Return the fingerprint of a module and of all that it imports, directly or not, by module name.

    Imports are followed into attnlab, into the package of `root`, and, if `root` is not installed, into
    modules in the same folder. They are not followed into libraries, whose versions a run records.

    The result is cached for the whole process, because a process imports each module only once.

    Raises:
        UserError: a module is not valid Python, or `root` has no source file.
    """
    found: dict[str, str] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name in found or name in NO_NUMBERS:
            continue
        found[name] = fingerprint(name)
        waiting += _imports(source.require(name), root)
    return found


@cache
def fingerprint(name: str) -> str:
    """Return the sha256 of one module's normal form."""
    return of_file(name, *source.version_of(name))


@cache
def of_file(name: str, _file: Path, _changed: int) -> str:
    """Return the fingerprint of a module whose file was changed last at a time, in nanoseconds."""
    return hashlib.sha256(normal_form(source.require(name).tree).encode()).hexdigest()


def normal_form(node: object) -> str:
    """Return a syntax tree as text that is the same on every Python version (`ast.dump` is not).

    Left out are docstrings and other statements that are only a text, `pass`, and what is empty. Comments,
    line numbers and the layout are not in the tree.
    """
    if isinstance(node, ast.Constant):
        return ascii(node.value)
    if isinstance(node, list):
        return f"[{','.join(normal_form(item) for item in node if not _does_nothing(item))}]"
    if not isinstance(node, ast.AST):
        return "-" if node is None else ascii(node)  # None in a list: nothing there; the constant is above
    fields = ((name, getattr(node, name, None)) for name in node._fields if name not in UNREAD_FIELDS)
    inner = ",".join(f"{name}={normal_form(value)}" for name, value in fields if value not in (None, []))
    return f"{type(node).__name__}({inner})"


def _does_nothing(node: object) -> bool:
    is_text = (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
    return is_text or isinstance(node, ast.Pass)


def _imports(module: Module, root: str) -> Iterator[str]:
    """The modules to follow that a file imports, at its top or inside a function."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if _is_followed(alias.name, root)]
            yield from (name for name in names if source.find_module(name))
        elif isinstance(node, ast.ImportFrom):
            package = module.imported_module(node)
            if _is_followed(package, root):
                yield from filter(None, (_defining(package, alias.name) for alias in node.names))


def _defining(package: str, name: str) -> str | None:
    """The module that `from package import name` takes the name from, through what packages re-export."""
    if source.find_module(f"{package}.{name}"):
        return f"{package}.{name}"
    if not source.find_module(package):
        return None
    origin = source.require(package).imported_from(name) if package in OURS else None
    return _defining(*origin) if origin else package


def _is_followed(name: str, root: str) -> bool:
    top, top_of_root = name.partition(".")[0], root.partition(".")[0]
    if top in (*OURS, top_of_root):
        return True
    home = _home(top_of_root)
    return home is not None and home not in INSTALLED and _home(top) == home


@cache
def _home(top: str) -> Path | None:
    """The folder that holds a top-level module or package; None for one without a file."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or (not spec.has_location and not spec.submodule_search_locations):
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve().parent
    return Path(spec.origin or "").resolve().parent
