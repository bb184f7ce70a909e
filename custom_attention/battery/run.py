"""Run the checks on one variant: every family, every check."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import transformers

from custom_attention.attach import attach
from custom_attention.battery.checks import CHECKS, Check, CheckFailed
from custom_attention.battery.models import FAMILIES, tiny
from custom_attention.errors import VariantError
from custom_attention.runtime.dispatch import Recipe


@dataclass
class FamilyResult:
    """What one family says of a variant.

    Attributes:
        sites: "all", or "self" where the variant refuses cross-attention; "none" where it refuses the model.
        refusal: the reason of the variant where it refuses some sites.
        outcomes: by check, None if it holds, otherwise what is wrong; checks that do not concern the family
            are missing.
    """

    family: str
    sites: str = "all"
    refusal: str | None = None
    outcomes: dict[str, str | None] = field(default_factory=dict)


def check_variant(recipe: Recipe) -> Iterator[FamilyResult]:
    """Check the variants of `recipe`, attached together, on tiny models of each family, one after another."""
    for family in FAMILIES:
        result = FamilyResult(family)
        with _quiet_transformers():
            model = _attached(recipe, result)
            for name, (concerned, check) in CHECKS.items() if model is not None else ():
                if family in concerned:
                    result.outcomes[name] = _outcome(check, copy.deepcopy(model), family)
        yield result


def _attached(recipe: Recipe, result: FamilyResult) -> Any:
    """Return a model with the variants at all sites, or at self-attention if they refuse others, or None."""
    for sites, where in (("all", None), ("self", {"kind": "self"})):
        try:
            result.sites = sites
            return attach(tiny(result.family), [{name: options} for name, options in recipe], where=where)
        except VariantError as error:
            result.refusal = result.refusal or str(error)
        except Exception as error:  # the user's own code may raise anything
            result.outcomes["alive"] = _words(error)
            break
    result.sites = "none"
    return None


def _outcome(check: Check, model: Any, family: str) -> str | None:
    try:
        check(model, family)
    except (CheckFailed, VariantError) as failure:
        return str(failure).rstrip(".")
    except Exception as error:  # as above
        return _words(error)
    return None


def _words(error: Exception) -> str:
    if isinstance(error, VariantError):
        return str(error).rstrip(".")
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Leave out its progress bars and warnings, which would stand in the table."""
    logging = transformers.utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
