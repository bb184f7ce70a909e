"""The rule of `custom_attention/option_types.py`, loaded alone: the package around it imports torch."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from custom_attention.option_types import choices, fits
else:
    _package = importlib.util.find_spec("custom_attention")
    [_folder] = _package.submodule_search_locations
    _spec = importlib.util.spec_from_file_location("attnlab_option_types", f"{_folder}/option_types.py")
    _rule = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_rule)
    choices, fits = _rule.choices, _rule.fits

__all__ = ["choices", "fits"]
