"""Variant classes by name: find them, read how a user wrote them, check their options."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import inspect
import pkgutil
import typing
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from custom_attention import option_types, variants
from custom_attention.errors import VariantError
from custom_attention.user_code import told
from custom_attention.variant import Variant

ENTRY_POINTS = "attnlab.variants"
NamedOptions = tuple[str, dict[str, Any]]  # the name of a variant and its options


def names() -> list[str]:
    """Return the names of the variants in this package and in installed packages (entry points)."""
    own = {module.name for module in pkgutil.iter_modules(variants.__path__)}
    return sorted(own | {point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS)})


def find(name: str) -> type[Variant]:
    """Return the class of "gate" (a file of `variants/` or an entry point) or of "package.module:Class".

    Raises:
        VariantError: there is no such variant.
    """
    if ":" in name:
        return _imported(name, *name.split(":", 1))
    if name in {module.name for module in pkgutil.iter_modules(variants.__path__)}:
        return only_variant(importlib.import_module(f"{variants.__name__}.{name}"))
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.name == name:
            return _imported(name, *point.value.split(":", 1))
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise VariantError("attention", "unknown variant", name, f"{hint}one of {', '.join(names())}")


def only_variant(module: ModuleType) -> type[Variant]:
    """Return the one variant class that `module` defines.

    Raises:
        VariantError: it defines none, or several.
    """
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Variant) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise VariantError(module.__name__, "a variant file defines exactly one variant class", len(found))
    return found[0]


def parse(spec: object) -> list[NamedOptions]:
    """Return the variants of a spec, in order, each with its options.

    Args:
        spec: a name, {name: options}, {"variant": name, **options}, an object with `name` and `options`, or a
            list of those. [] is stock attention through the dispatcher.

    Raises:
        VariantError: it is none of these.
    """
    if isinstance(spec, str):
        return [(spec, {})]
    if isinstance(spec, Mapping):
        if "variant" in spec:
            return [(spec["variant"], {k: v for k, v in spec.items() if k != "variant"})]
        return [(name, dict(options or {})) for name, options in spec.items()]
    if hasattr(spec, "name") and hasattr(spec, "options"):
        return [(spec.name, dict(spec.options))]
    if isinstance(spec, (list, tuple)):
        return [pair for part in spec for pair in parse(part)]
    raise VariantError("attention", "not a variant", spec, "a name, {name: options} or a list of those")


def check_options(cls: type[Variant], name: str, options: Mapping[str, Any]) -> None:
    """Refuse missing and unknown options, and values of a wrong type or out of bounds, as annotated.

    Raises:
        VariantError: naming the option and what is accepted.
    """
    known = _options(cls)
    for option, (parameter, _) in known.items():
        if parameter.default is parameter.empty and option not in options:
            raise VariantError(name, "an option without a default is missing", option, "give it a value")
    for option, value in options.items():
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            perhaps = f"did you mean {near[0]!r}? " if near else ""
            takes = f"it takes {', '.join(known)}" if known else "it takes no options"
            raise VariantError(name, "unknown option", option, perhaps + takes)
        if not option_types.fits(value, known[option][1]):
            raise VariantError(f"{name}.{option}", "not accepted", value, _accepted(known[option][1]))
    values = {option: parameter.default for option, (parameter, _) in known.items()} | dict(options)
    for option, (_, hint) in known.items():
        rule = option_types.broken(values[option], hint, values)
        if rule is not None:
            raise VariantError(f"{name}.{option}", "not accepted", values[option], str(rule))


def _options(cls: type[Variant]) -> dict[str, tuple[inspect.Parameter, object]]:
    """The options of the nearest constructor, and of those that it passes `**options` on to; their types."""
    found: dict[str, tuple[inspect.Parameter, object]] = {}
    for constructor in (vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)):
        parameters = list(inspect.signature(constructor).parameters.values())[2:]  # without self and site
        hints = typing.get_type_hints(constructor, include_extras=True)
        for one in parameters:
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
                found.setdefault(one.name, (one, hints.get(one.name, Any)))
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return found


def _accepted(hint: object) -> str:
    choices = option_types.choices(hint)
    if choices:
        return "one of " + ", ".join(map(str, choices))
    return f"a value of type {hint.__name__ if isinstance(hint, type) else hint}"


def _imported(name: str, module: str, attribute: str) -> type[Variant]:
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise VariantError(name, f"cannot be imported: {error}", accepted="package.module:Class") from error
    except Exception as error:  # the user's own code may raise anything
        raise VariantError(
            name, f"cannot be imported: {told(error)}", accepted="correct the module"
        ) from error
    if not (inspect.isclass(cls) and issubclass(cls, Variant)):
        raise VariantError(name, "not a subclass of custom_attention.Variant")
    return cls
