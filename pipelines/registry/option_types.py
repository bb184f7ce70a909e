"""The rule of `custom_attention/option_types.py`, loaded alone: the package around it imports torch."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

__all__ = [
    "ALIASES",
    "RULES",
    "CheckedBy",
    "Count",
    "Items",
    "Mistake",
    "OnlyWith",
    "Range",
    "Rule",
    "Share",
    "broken",
    "choices",
    "fits",
    "rules",
    "shown",
]

if TYPE_CHECKING:
    from custom_attention.option_types import (
        ALIASES,
        RULES,
        CheckedBy,
        Count,
        Items,
        Mistake,
        OnlyWith,
        Range,
        Rule,
        Share,
        broken,
        choices,
        fits,
        rules,
        shown,
    )
else:
    _package = importlib.util.find_spec("custom_attention")
    [_folder] = _package.submodule_search_locations
    _spec = importlib.util.spec_from_file_location("attnlab_option_types", f"{_folder}/option_types.py")
    _rule = importlib.util.module_from_spec(_spec)
    sys.modules[_spec.name] = _rule  # where dataclasses look up their annotations
    _spec.loader.exec_module(_rule)
    globals().update({name: getattr(_rule, name) for name in __all__})
