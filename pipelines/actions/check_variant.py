"""`attnlab check-variant`: the checks of every variant, on tiny models of every family, for any class."""

from __future__ import annotations

import yaml
from rich.table import Table

from custom_attention import registry
from custom_attention.battery.checks import CHECKS
from custom_attention.battery.run import FamilyResult, check_variant
from custom_attention.errors import VariantError
from custom_attention.hook_names import refuse_wrong_hooks
from custom_attention.runtime.dispatch import Recipe
from pipelines.errors import RunFailed, UserError
from pipelines.models.attention import variant_errors_as_user_errors
from pipelines.shown import printable
from pipelines.terminal import Terminal

WIDTH = 110  # columns of the table


def check_variant_command(written: str) -> None:
    """Print one table, a row for each family and a column for each check, and what is wrong below it.

    Args:
        written: a variant as in YAML: a name, package.module:Class, or {name: options}.

    Raises:
        UserError: there is no such variant, or it does not take an option.
        RunFailed: it can do nothing, or a check fails.
    """
    recipe = _recipe(written)
    for name, _ in recipe:
        try:
            refuse_wrong_hooks(registry.find(name), name)
        except VariantError as error:
            raise RunFailed(str(error)) from error
    results = list(check_variant(recipe))
    Terminal(width=WIDTH).print(_table(results))
    for result in results:
        if result.refusal:
            print(
                printable(
                    f"{result.family}: refused at {'all' if result.sites == 'none' else 'cross-attention'} "
                    f"sites: {result.refusal}"
                )
            )
    failures = _failures(results)
    for check, (families, sentence) in failures.items():
        print(printable(f"{check} ({', '.join(families)}): {sentence}."))
    if failures:
        raise RunFailed(f"{written}: {len(failures)} of {len(CHECKS)} checks failed")
    if all(result.sites == "none" for result in results):
        raise RunFailed(f"{written}: refused on every family, so nothing was checked")
    print(printable(f"{written}: all checks hold"))


def _recipe(written: str) -> Recipe:
    try:
        spec = yaml.safe_load(written) if written.lstrip().startswith(("{", "[")) else written
    except yaml.YAMLError as error:
        raise UserError("VARIANT", "not YAML", written, "a name or '{name: {option: value}}'") from error
    with variant_errors_as_user_errors():
        recipe = registry.parse(spec)
        for name, options in recipe:
            registry.check_options(registry.find(name), name, options)
    return recipe


def _table(results: list[FamilyResult]) -> Table:
    table = Table("family", "sites", *CHECKS, header_style="bold", box=None, pad_edge=False)
    for result in results:
        table.add_row(result.family, result.sites, *(_cell(result, check) for check in CHECKS))
    return table


def _cell(result: FamilyResult, check: str) -> str:
    if check not in result.outcomes:
        return "-"
    return "yes" if result.outcomes[check] is None else "NO"


def _failures(results: list[FamilyResult]) -> dict[str, tuple[list[str], str]]:
    """Return for each check that fails the families and what the first one says."""
    failures: dict[str, tuple[list[str], str]] = {}
    for result in results:
        for check, sentence in result.outcomes.items():
            if sentence is not None:
                failures.setdefault(check, ([], sentence))[0].append(result.family)
    return failures
