"""The search of an ablation file, checked against its arms and the variants that they name."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.config.ablation_file import names
from pipelines.config.options import wrong_options
from pipelines.config.suggestions import perhaps
from pipelines.config.yaml_source import Document, KeyPath
from pipelines.errors import UserError
from pipelines.registry import catalog

OPTIONS: KeyPath = ("search", "options")
RATES = ("learning_rate", "variant_learning_rate")
DROP = "remove it here, or remove search"


def search_errors(document: Document) -> list[UserError]:
    """Return an error for each setting that an arm states although the search decides it, and for each option
    that no arm has or that cannot have a value of the search."""
    return [*_stated_rates(document), *_options(document)]


def _stated_rates(document: Document) -> Iterator[UserError]:
    for arm in names(document, "arms"):
        for name in RATES:
            path: KeyPath = ("arms", arm, "set", name)
            if document.get(("search", name)) and document.get(path) is not None:
                what = f"search decides the {name.replace('_', ' ')}"
                yield UserError(document.place(path).where, what, accepted=DROP)


def _options(document: Document) -> Iterator[UserError]:
    variants = list(_variants(document))
    options = document.get(OPTIONS)
    for name, values in options.items() if isinstance(options, dict) else ():
        variant, _, option = str(name).rpartition(".")
        where = document.place((*OPTIONS, name)).where
        stated = [(path, given) for path, one, given in variants if one == variant]
        if not stated:
            known = sorted({one for _, one, _ in variants})
            what = f"no arm has a variant {variant!r}" if variant else f"{name!r} names no variant"
            listed = perhaps(variant, known, "variants of the arms")
            yield UserError(
                where, what, accepted=listed if variant else "write VARIANT.OPTION, as gate.start"
            )
            continue
        for path in (path for path, given in stated if option in given):
            where_stated = document.place((*path, variant, option)).where
            yield UserError(where_stated, f"search decides {name}", accepted=DROP)
        entry = catalog.find(catalog.VARIANT, variant)
        if entry is None or not isinstance(values, list):  # reported elsewhere
            continue
        wrong = [one for value in values for one in wrong_options(entry, {**stated[0][1], option: value})]
        yield from (UserError(where, one.what, one.came, one.accepted) for one in wrong if one.name == option)


def _variants(document: Document) -> Iterator[tuple[KeyPath, str, dict[str, object]]]:
    """Yield every variant of the arms: where it stands, its name and its options."""
    for arm in names(document, "arms"):
        path: KeyPath = ("arms", arm, "attention")
        specs = document.get(path)
        for index, spec in enumerate(specs if isinstance(specs, list) else ()):
            if isinstance(spec, str):
                yield (*path, index), spec, {}
            elif isinstance(spec, dict) and len(spec) == 1:
                [(name, given)] = spec.items()
                yield (*path, index), name, given if isinstance(given, dict) else {}
