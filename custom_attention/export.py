"""Write one Python file with a model class and its variants, from the source of this package.

Files are joined, their imports merged, and the class of the model is added last. Nothing depends on what the
code does.
"""

from __future__ import annotations

import ast
import importlib
import json
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from custom_attention import adapters, errors, option_types, registry, site, variant
from custom_attention.errors import VariantError
from custom_attention.runtime import (
    adapter,
    blockwise,
    call,
    dispatch,
    forward,
    kernel,
    paired_dropout,
    recomputed,
    restored_model,
    tokens,
    transfer,
)
from custom_attention.runtime.dispatch import Recipe

PACKAGE = "custom_attention"
# The files that every exported model needs, in order.
RUN_TIME = (
    errors,
    option_types,  # variants state the bounds of their options
    site,
    blockwise,
    paired_dropout,
    recomputed,
    transfer,
    forward,
    kernel,
    tokens,
    call,
    variant,
    dispatch,
    adapter,
    restored_model,
)
PREFIX = "Attnlab"
LINE_LENGTH = 110


@dataclass(frozen=True)
class Names:
    """Names of the exported classes of a model, and of the module that defines them."""

    stock_config: str
    stock_model: str
    module: str

    @property
    def config(self) -> str:
        """Name of the exported config class."""
        return PREFIX + self.stock_config

    @property
    def model(self) -> str:
        """Name of the exported model class."""
        return PREFIX + self.stock_model


def names_of(model_class: type[PreTrainedModel], model_type: str) -> Names:
    """Return the names for a class of transformers; `model_type` is that of the export ("attnlab-bert")."""
    module = f"modeling_{model_type.replace('-', '_')}"
    return Names(config_class_of(model_class).__name__, model_class.__name__, module)


def auto_classes(model_class: type[PreTrainedModel]) -> list[str]:
    """Return the Auto classes of transformers that give this class; AutoModel if there are none."""
    model_type = config_class_of(model_class).model_type
    found = []
    for name in sorted(vars(transformers.models.auto.modeling_auto)):
        mapping = getattr(getattr(transformers, name, None), "_model_mapping", None)
        if not name.startswith("AutoModel") or mapping is None:
            continue
        classes = mapping._model_mapping.get(model_type, ())
        if model_class.__name__ in ((classes,) if isinstance(classes, str) else classes):
            found.append(name)
    jobs = [name for name in found if name not in ("AutoModelForPreTraining", "AutoModelWithLMHead")]
    return jobs or found or ["AutoModel"]


def auto_map(model_class: type[PreTrainedModel], model_type: str) -> dict[str, str]:
    """Return the `auto_map` of config.json: where each Auto class finds the exported class."""
    names = names_of(model_class, model_type)
    models = dict.fromkeys(auto_classes(model_class), f"{names.module}.{names.model}")
    return {"AutoConfig": f"{names.module}.{names.config}", **models}


def modeling_source(model_class: type[PreTrainedModel], model_type: str, recipe: Recipe) -> str:
    """Return the text of the file.

    Args:
        model_class: the stock class.
        model_type: that of the export, such as "attnlab-bert".
        recipe: name and options of each variant.

    Raises:
        VariantError: a variant's file imports from its own package, or two files define the same name.
    """
    classes = {name: registry.find(name) for name, _ in recipe}
    adapting = adapters.file_of(model_class)
    first = [*RUN_TIME, adapting] if adapting else list(RUN_TIME)
    modules = _with_variant_modules(first, [cls.__module__ for cls in classes.values()])
    names = names_of(model_class, model_type)
    stock = f"from transformers import {names.stock_config}, {names.stock_model}"
    parts = [_Part.of(module) for module in modules]
    _refuse_equal_names(parts)
    imports = _merged([line for part in parts for line in part.imports] + [stock])
    header = _header(names, recipe)
    bodies = [f"# ---- {part.name} {'-' * (70 - len(part.name))}\n\n\n{part.body}" for part in parts]
    table = {name: cls.__qualname__ for name, cls in classes.items()}
    found_by = {name: json.dumps(place) for name, place in auto_map(model_class, model_type).items()}
    last = _model_classes(names, model_type, table, found_by)
    if adapting:
        adapted = ", ".join(found.__name__ for found in adapters.of_class(model_class))
        last += f"\n    adapters: ClassVar = ({adapted},)"
    return f"{header}\n\n{imports}\n\n" + "\n\n\n".join([*bodies, last]) + "\n"


def _header(names: Names, recipe: Recipe) -> str:
    variants = [f"    {name} {json.dumps(options)}" for name, options in recipe]
    return "\n".join(
        [
            f'"""{names.stock_model} with another attention: generated by attnlab, not written by hand.',
            "",
            f"attnlab {version('attnlab')}, transformers {version('transformers')}, variants in order:",
            *variants,
            "",
            "It has the dispatcher, the variants, and the classes that AutoConfig and AutoModel find.",
            f"Clean by ruff check and ruff format, lines of up to {LINE_LENGTH} characters.",
            '"""',
        ]
    )


def _model_classes(names: Names, model_type: str, table: dict[str, str], found_by: dict[str, str]) -> str:
    return f'''# ---- the model {"-" * 61}


class {names.config}({names.stock_config}):
    model_type = "{model_type}"


class {names.model}(Restored, {names.stock_model}):
    config_class = {names.config}
    variant_classes: ClassVar = {_written(table)}
    auto_map: ClassVar = {_written(found_by)}'''


def _written(table: dict[str, str]) -> str:
    """Return the source of a dict in a class body: keys quoted, values as they are, one entry a line."""
    lines = (f"        {json.dumps(key)}: {value}," for key, value in table.items())
    marked = (line if len(line) <= LINE_LENGTH else f"{line}  # noqa: E501" for line in lines)
    return "{\n" + "".join(f"{line}\n" for line in marked) + "    }"


def _with_variant_modules(modules: list[ModuleType], more: list[str]) -> list[ModuleType]:
    """Return `modules` and those named `more`, each after the variant modules that it imports."""
    for name in more:
        module = importlib.import_module(name)
        if module in modules:
            continue
        tree = ast.parse(_text(module))
        imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        variants = [name for name in imported if name.startswith(f"{PACKAGE}.variants.")]
        modules = _with_variant_modules(modules, variants)
        modules = modules if module in modules else [*modules, module]
    return modules


@dataclass(frozen=True)
class _Part:
    """One module of the file: its text without imports, docstring and `__all__`, and the names it defines."""

    name: str
    imports: list[str]
    body: str
    defines: set[str]

    @classmethod
    def of(cls, module: ModuleType) -> _Part:
        text = _text(module)
        tree = ast.parse(text)
        lines: list[str | None] = [*text.splitlines()]  # None: left out
        imports: list[str] = []
        aliases: list[str] = []
        defines: set[str] = set()
        for index, node in enumerate(tree.body):
            docstring = index == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            drop = docstring or isinstance(node, (ast.Import, ast.ImportFrom))
            if isinstance(node, ast.ImportFrom):
                if node.level:
                    what = "cannot be exported: it imports from its own package"
                    raise VariantError(module.__name__, what, accepted="a variant file that stands alone")
                if f"{node.module}.".startswith(f"{PACKAGE}."):
                    aliases += [f"{a.asname} = {a.name}" for a in node.names if a.asname]
                else:
                    imports.append(ast.unparse(node))
            elif isinstance(node, ast.Import):
                imports.append(ast.unparse(node))
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                defines.add(node.name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                named = {target.id for target in targets if isinstance(target, ast.Name)}
                drop = named == {"__all__"}
                defines |= named - {"__all__"}
            if drop:
                for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                    lines[number - 1] = None
        own = "\n".join(line for line in lines if line is not None).strip("\n")
        body = "\n\n\n".join(["\n".join(aliases), own] if aliases else [own])
        return cls(module.__name__, imports, body, defines)


def _refuse_equal_names(parts: list[_Part]) -> None:
    owners: dict[str, str] = {}
    for part in parts:
        for name in sorted(part.defines):
            if owners.setdefault(name, part.name) != part.name:
                what = f"cannot be exported: {owners[name]} defines the same name"
                raise VariantError(part.name, what, name, "another name in the variant's file")


def _merged(imports: list[str]) -> str:
    """Return import lines that import each name once, the standard library first."""
    plain: set[str] = set()
    of: dict[str, set[str]] = {}
    for line in imports:
        [node] = ast.parse(line).body
        if isinstance(node, ast.Import):
            plain |= {ast.unparse(ast.Import([alias])) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            of.setdefault(node.module or "", set()).update(ast.unparse(alias) for alias in node.names)
    future = of.pop("__future__", set())
    lines = [(line.split()[1], line) for line in sorted(plain)]
    lines += [(module, _from(module, sorted(names))) for module, names in sorted(of.items())]
    standard = [line for module, line in lines if module.split(".")[0] in sys.stdlib_module_names]
    others = [line for _, line in lines if line not in standard]
    first = [f"from __future__ import {', '.join(sorted(future))}"] if future else []
    return "\n\n".join("\n".join(block) for block in (first, standard, others) if block)


def _from(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= 88:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")"


def _text(module: ModuleType) -> str:
    try:
        return Path(module.__file__ or "").read_text(encoding="utf-8")
    except (AttributeError, OSError) as error:
        what = "cannot be exported: its source text was not found"
        raise VariantError(module.__name__, what, accepted="a variant in a file of its own") from error


def stock_class(model: PreTrainedModel) -> type[PreTrainedModel]:
    """Return the class of transformers of a model, also if a sharded model has a class made for it.

    Raises:
        VariantError: the model's class is not one of transformers.
    """
    for cls in type(model).__mro__:
        if getattr(transformers, cls.__name__, None) is cls and issubclass(cls, PreTrainedModel):
            if cls is not PreTrainedModel:
                return cls
            break
    raise VariantError(type(model).__name__, "only classes of transformers can be saved with variants")


def config_class_of(stock: type[PreTrainedModel]) -> type[PreTrainedConfig]:
    """Return the config class of a class of transformers.

    Raises:
        VariantError: it has none, as an abstract class.
    """
    if stock.config_class is None:
        raise VariantError(stock.__name__, "this class has no config class and cannot be saved with variants")
    return stock.config_class


def exported_config_class(stock: type[PreTrainedConfig], model_type: str) -> type[PreTrainedConfig]:
    """Make the config class of an export in this process."""
    name = PREFIX + stock.__name__
    return type(name, (stock,), {"model_type": model_type, "__module__": __name__})
