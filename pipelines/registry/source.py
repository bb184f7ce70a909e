"""Source files read with `ast`: their classes, functions, options and types; nothing is imported."""

from __future__ import annotations

import ast
import functools
import importlib.util
import operator
import os
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Annotated, Any, Literal

from pipelines.errors import UserError
from pipelines.registry import option_types

REQUIRED = object()  # in place of the default of a required option
HOME = Path(__file__).parents[2]  # the folder of these packages
OURS = ("custom_attention", "pipelines")


@dataclass(frozen=True)
class Option:
    """One keyword argument: its annotation (None: not annotated), its default, its line in the docstring."""

    name: str
    annotation: ast.expr | None
    default: Any
    meaning: str
    module: Module  # its file, which defines the names in the annotation

    @property
    def hint(self) -> object:
        """The type that its values must fit."""
        return hint_of(self.annotation, self.module)

    @property
    def is_required(self) -> bool:
        return self.default is REQUIRED

    def __str__(self) -> str:
        rules = option_types.rules(self.hint)
        kind = option_types.shown(self.hint) if rules else self.annotation and ast.unparse(self.annotation)
        text = f"{self.name}: {kind}" if kind else self.name
        text += "" if self.is_required else f" = {self.default!r}"
        return f"{text} ({'; '.join(map(str, rules))})" if rules else text


@dataclass(frozen=True)
class Module:
    """A parsed source file and the name it is imported by."""

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
        """Return the expression that a module-level `name = ...` assigns; None where there is none."""
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
        """Return the value of a module-level literal, or of a frozenset of one; None where there is none."""
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
    """Return the file of a module by its dotted name, without importing its packages; None without one."""
    top, *rest = name.split(".")
    try:  # ours are found beside this file, whatever folder of their name is on the search path
        spec = PathFinder.find_spec(top, [str(HOME)]) if top in OURS else importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or not all(part.isidentifier() for part in rest):
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *rest)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if os.path.isfile(file):  # False too for a name that is too long
                return file
    return None


def module(name: str) -> Module | None:
    """Return the parsed module of a dotted name; None where there is none.

    Raises:
        SyntaxError: the file is not valid Python.
    """
    file = find_module(name)
    return Module(name, file, _parse(file, _changed(file))) if file else None


def version_of(name: str) -> tuple[Path, int]:
    """Return the file of a module by its dotted name, and when it was changed last, in nanoseconds.

    Raises:
        UserError: there is no such file.
    """
    file = find_module(name)
    if file is None:
        raise _not_found(name)
    return file, _changed(file)


def require(name: str) -> Module:
    """Return the parsed module of a dotted name.

    Raises:
        UserError: there is no such file, or it is not valid Python.
    """
    try:
        found = module(name)
    except SyntaxError as error:
        raise not_python(error) from None
    if found is None:
        raise _not_found(name)
    return found


def _not_found(name: str) -> UserError:
    return UserError(name, "the source file of this module is not found")


def not_python(error: SyntaxError) -> UserError:
    """Return a syntax error as a sentence with its file and line."""
    return UserError(f"{error.filename}:{error.lineno}", "is not valid Python", error.msg)


def _changed(file: Path) -> int:
    return file.stat().st_mtime_ns


@lru_cache(maxsize=64)
def _parse(file: Path, _at: int) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def ancestry(source: Module, name: str) -> Iterator[Ancestor]:
    """Yield a class and its ancestors, nearest first, as far as their files can be found."""
    node = source.classes.get(name)
    if node is None:
        yield from _imported_ancestry(source.imported_from(name))
        return
    yield Ancestor(source, node)
    for base in node.bases:
        base = base.value if isinstance(base, ast.Subscript) else base  # Base[Generic]
        if isinstance(base, ast.Name):
            yield from ancestry(source, base.id)
        elif isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name):
            origin = source.imported_from(base.value.id)
            yield from _imported_ancestry((".".join(origin), base.attr) if origin else None)


def _imported_ancestry(origin: tuple[str, str] | None) -> Iterator[Ancestor]:
    """The ancestry of a class by its module and its name there."""
    found = module(origin[0]) if origin else None
    if origin and found:
        yield from ancestry(found, origin[1])


def meaning(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    """Return the first line of a docstring."""
    return (ast.get_docstring(node) or "").partition("\n")[0]


def argument_meanings(node: ast.ClassDef | ast.FunctionDef) -> dict[str, str]:
    """Return the text on each argument in the `Args:` or `Options:` section, each as one line."""
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
    """Return the methods and properties that a class defines itself."""
    return {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}


def attributes(node: ast.ClassDef) -> dict[str, Any]:
    """Return the class attributes with literal values; of other mappings the keys, with values None."""
    found: dict[str, Any] = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None:
            found[item.target.id] = _literal(item.value)
        elif isinstance(item, ast.Assign):
            found |= {to.id: _literal(item.value) for to in item.targets if isinstance(to, ast.Name)}
    return found


def builds_parameters(ancestor: Ancestor) -> bool:
    """Return whether the constructor of a class calls or maps `nn.Parameter`, or builds a layer of torch."""
    constructor = methods(ancestor.node).get("__init__")
    calls = [node for node in ast.walk(constructor) if isinstance(node, ast.Call)] if constructor else []
    for name in (ast.unparse(node) for call in calls for node in (call.func, *call.args)):
        first, _, rest = name.partition(".")
        origin = ancestor.module.imported_from(first)
        full = ".".join(part for part in (*(origin or (first,)), rest) if part)
        if full.startswith("torch.nn.") and full.rpartition(".")[2][0].isupper():
            return True
    return False


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        if not isinstance(node, ast.Dict):
            return None
        pairs = zip(node.keys, node.values)
        return {key.value: _literal(value) for key, value in pairs if isinstance(key, ast.Constant)}


def options(
    function: ast.FunctionDef, source: Module, leave_out: frozenset[str], meanings: Mapping[str, str]
) -> tuple[list[Option], bool]:
    """Return the keyword arguments of a function, and whether it passes others on (`**options`)."""
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
    """The source text of a default that is not a literal."""

    def __repr__(self) -> str:
        return str(self)


def _default(node: ast.expr | None) -> Any:
    if node is None:
        return REQUIRED
    try:
        return ast.literal_eval(node)
    except ValueError:
        return Expression(ast.unparse(node))


# ---- the types of options

_TYPES: Mapping[str, type] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "dict": dict,
    "Mapping": Mapping,
    "list": list,
    "tuple": tuple,
    "Sequence": Sequence,
}


def hint_of(annotation: ast.expr | None, source: Module) -> object:
    """Return the type that an annotation means; `Any` for what its source alone does not say."""
    match annotation:
        case ast.BinOp(op=ast.BitOr()):
            return _union([hint_of(annotation.left, source), hint_of(annotation.right, source)])
        case ast.Constant(value=None):
            return type(None)
        case ast.Constant(value=str(quoted)):
            return hint_of(ast.parse(quoted, mode="eval").body, source)
        case ast.Subscript():
            return _hint_of_subscript(annotation, source)
        case ast.Name(id=name) if name in _TYPES:
            return _TYPES[name]
        case ast.Name(id=name):
            return _hint_of_name(name, source)
    return Any


def _hint_of_name(name: str, source: Module) -> object:
    """The type that a name means: an alias of this file, of the rules, or of another file."""
    own = source.assigned(name)
    if own is not None:
        return hint_of(own, source)
    if name in option_types.ALIASES:
        return option_types.ALIASES[name]
    origin = source.imported_from(name)
    found = module(origin[0]) if origin else source
    name = origin[1] if origin else name
    if found is None:
        return Any
    if name in found.classes:
        bases = map(ast.unparse, found.classes[name].bases)
        return dict if any(base.rpartition(".")[2] == "TypedDict" for base in bases) else Any
    assigned = found.assigned(name)
    return hint_of(assigned, found) if assigned is not None else Any


def _hint_of_subscript(annotation: ast.Subscript, source: Module) -> object:
    name = ast.unparse(annotation.value).rpartition(".")[2]
    parts = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    if name == "Literal":
        return Literal[tuple(part.value for part in parts if isinstance(part, ast.Constant))]
    if name == "Annotated":
        return Annotated[(hint_of(parts[0], source), *filter(None, map(_rule, parts[1:])))]
    inner = tuple(... if ast.unparse(part) == "..." else hint_of(part, source) for part in parts)
    if name in ("Optional", "Union"):
        return _union([*inner, *([type(None)] if name == "Optional" else [])])
    return types.GenericAlias(_TYPES[name], inner) if name in _TYPES else Any


def _rule(node: ast.expr) -> option_types.Rule | None:
    """The rule that an annotation declares, as in `Range(at_least=1)`; None for what is no rule."""
    if not isinstance(node, ast.Call):
        return None
    rule = option_types.RULES.get(ast.unparse(node.func).rpartition(".")[2])
    given = {keyword.arg: _literal(keyword.value) for keyword in node.keywords if keyword.arg}
    return rule(**given) if rule else None


def _union(hints: Sequence[object]) -> object:
    return functools.reduce(operator.or_, hints)
