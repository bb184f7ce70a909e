"""What classes and functions a source file defines, read with `ast`: nothing is imported, nothing runs."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.errors import UserError

REQUIRED = object()  # the default of an option that has none


@dataclass(frozen=True)
class Option:
    """One keyword argument: its annotation (None: not annotated), its default, its docstring's line."""

    name: str
    annotation: ast.expr | None
    default: Any
    meaning: str
    module: Module  # where the names in the annotation are defined

    @property
    def is_required(self) -> bool:
        return self.default is REQUIRED

    def __str__(self) -> str:
        kind = f": {ast.unparse(self.annotation)}" if self.annotation else ""
        return f"{self.name}{kind}" + ("" if self.is_required else f" = {self.default!r}")


@dataclass(frozen=True)
class Module:
    """A parsed source file under the name it is imported by."""

    name: str
    file: Path
    tree: ast.Module

    @property
    def classes(self) -> dict[str, ast.ClassDef]:
        return {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef)}

    @property
    def functions(self) -> dict[str, ast.FunctionDef]:
        return {node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)}

    def imported_module(self, node: ast.ImportFrom) -> str:
        """Return the full name of the module that `from ... import` names, relative or not."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        package = parts if self.file.name == "__init__.py" else parts[:-1]
        above = package[: len(package) - node.level + 1]
        return ".".join([*above, node.module] if node.module else above)

    def imported_from(self, name: str) -> tuple[str, str] | None:
        """Return (module, name there) of a name that this file takes from another; None for its own."""
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self.imported_module(node), alias.name
        return None

    def assigned(self, name: str) -> ast.expr | None:
        """What a module-level `name = ...` binds."""
        for node in self.tree.body:
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and node.target.id == name
            ):
                return node.value
            if isinstance(node, ast.Assign) and any(
                isinstance(to, ast.Name) and to.id == name for to in node.targets
            ):
                return node.value
        return None

    def constant(self, name: str) -> Any:
        """The value of a module-level literal, or of a frozenset of one; None where there is none."""
        node = self.assigned(name)
        if isinstance(node, ast.Call) and len(node.args) == 1:
            node = node.args[0]
        return _literal(node) if node is not None else None


@dataclass(frozen=True)
class Ancestor:
    """One class of an inheritance chain, with the module that defines it."""

    module: Module
    node: ast.ClassDef


def find_module(name: str) -> Path | None:
    """The file of a module by its dotted name; its packages are located, never imported."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or not all(part.isidentifier() for part in rest):
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *rest)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def module(name: str) -> Module | None:
    """The parsed module of a dotted name; None where there is none.

    Raises:
        SyntaxError: the file is no Python.
    """
    file = find_module(name)
    return Module(name, file, _parse(file, file.stat().st_mtime_ns)) if file else None


def not_python(error: SyntaxError) -> UserError:
    """Return a syntax error as a sentence with its file and line."""
    return UserError(f"{error.filename}:{error.lineno}", "is not valid Python", error.msg)


@lru_cache(maxsize=64)
def _parse(file: Path, _changed: int) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def ancestry(source: Module, name: str) -> Iterator[Ancestor]:
    """A class and its ancestors, nearest first, as far as their files can be found."""
    node = source.classes.get(name)
    if node is None:
        origin = source.imported_from(name)
        there = module(origin[0]) if origin else None
        if there is not None:
            yield from ancestry(there, origin[1])
        return
    yield Ancestor(source, node)
    for base in node.bases:
        base = base.value if isinstance(base, ast.Subscript) else base  # Base[Generic]
        if isinstance(base, ast.Name):
            yield from ancestry(source, base.id)
        elif isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name):
            origin = source.imported_from(base.value.id)
            there = module(".".join(origin)) if origin else None
            yield from ancestry(there, base.attr) if there else ()


def meaning(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    """The first line of a docstring."""
    return (ast.get_docstring(node) or "").partition("\n")[0]


def argument_meanings(node: ast.ClassDef | ast.FunctionDef) -> dict[str, str]:
    """What the `Args:` or `Options:` section of a docstring says of each argument, each on one line."""
    lines = iter((ast.get_docstring(node) or "").splitlines())
    found: dict[str, str] = {}
    if not any(line.strip() in ("Args:", "Options:") for line in lines):
        return found
    name = ""
    for line in lines:
        entry = re.match(r"^    (\w+):\s*(.*)$", line)
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif line.startswith("     ") and name:
            found[name] += " " + line.strip()
        elif line.strip():
            break
    return found


def methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    """The methods and properties a class defines itself."""
    return {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}


def attributes(node: ast.ClassDef) -> dict[str, Any]:
    """Class attributes with literal values; of a mapping with other values, its keys (values None)."""
    found: dict[str, Any] = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None:
            found[item.target.id] = _literal(item.value)
        elif isinstance(item, ast.Assign):
            found |= {to.id: _literal(item.value) for to in item.targets if isinstance(to, ast.Name)}
    return found


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
            return {key.value: _literal(value) for key, value in zip(node.keys, node.values)}
        return None


def options(
    function: ast.FunctionDef, source: Module, leave_out: frozenset[str], meanings: Mapping[str, str]
) -> tuple[list[Option], bool]:
    """The keyword arguments of a function, and whether it passes others on (`**options`)."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    pairs = [*zip(positional, defaults), *zip(arguments.kwonlyargs, arguments.kw_defaults)]
    found = [
        Option(argument.arg, argument.annotation, _default(default), meanings.get(argument.arg, ""), source)
        for argument, default in pairs
        if argument.arg not in leave_out
    ]
    return found, arguments.kwarg is not None


class Expression(str):
    """A default that is no literal, as source text."""

    def __repr__(self) -> str:
        return str(self)


def _default(node: ast.expr | None) -> Any:
    if node is None:
        return REQUIRED
    try:
        return ast.literal_eval(node)
    except ValueError:
        return Expression(ast.unparse(node))


# ---- values against annotations

_TYPES: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "None": (type(None),),
    "dict": (dict,),
    "Mapping": (dict,),
    "list": (list,),
    "tuple": (list,),
    "Sequence": (list,),
}


def fits(value: Any, annotation: ast.expr | None, source: Module) -> bool:
    """Whether a YAML value fits an annotation; what an annotation does not say plainly is let pass."""
    if annotation is None:
        return True
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return fits(value, annotation.left, source) or fits(value, annotation.right, source)
    if isinstance(annotation, ast.Constant):
        if isinstance(annotation.value, str):  # a quoted annotation
            return fits(value, ast.parse(annotation.value, mode="eval").body, source)
        return value is None if annotation.value is None else True
    if isinstance(annotation, ast.Subscript):
        return _fits_subscript(value, annotation, source)
    if isinstance(annotation, ast.Name):
        alias = source.assigned(annotation.id)
        if annotation.id not in _TYPES:
            return fits(value, alias, source)
        types = _TYPES[annotation.id]
        return isinstance(value, types) and (not isinstance(value, bool) or bool in types)
    return True


def _fits_subscript(value: Any, annotation: ast.Subscript, source: Module) -> bool:
    name = ast.unparse(annotation.value).rpartition(".")[2]
    inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    if name == "Literal":
        return any(value == choice and type(value) is type(choice) for choice in choices(annotation, source))
    if name == "Optional":
        return value is None or fits(value, inner[0], source)
    if name not in _TYPES:
        return True
    if not isinstance(value, _TYPES[name]):
        return False
    if name in ("list", "Sequence") or (
        name == "tuple" and len(inner) == 2 and ast.unparse(inner[1]) == "..."
    ):
        return all(fits(item, inner[0], source) for item in value)
    return True


def choices(annotation: ast.expr | None, source: Module) -> list[Any]:
    """The values that a `Literal[...]` in an annotation names; none where there is no Literal."""
    if isinstance(annotation, ast.BinOp):
        return choices(annotation.left, source) + choices(annotation.right, source)
    if isinstance(annotation, ast.Name):
        alias = source.assigned(annotation.id)
        return choices(alias, source) if alias is not None else []
    if (
        isinstance(annotation, ast.Subscript)
        and ast.unparse(annotation.value).rpartition(".")[2] == "Literal"
    ):
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return [node.value for node in inner if isinstance(node, ast.Constant)]
    return []
