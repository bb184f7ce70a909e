"""What a search tries: for each arm every combination of what it has, and as many as any other arm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Any

from pipelines.config.load import AblationConfig
from pipelines.registry import catalog

LEARNING_RATE, VARIANT_RATE = "learning_rate", "variant_learning_rate"
REACH = 4  # how far from the one learning rate of an arm its further ones lie, as a factor

Setting = Mapping[str, Any]  # of a run: its learning rate, and what else is searched ("gate.start")


def trials(config: AblationConfig, cell: str, arm: str) -> list[Setting]:
    """Return the settings that an arm tries in a cell, the lowest first.

    Every arm tries at least as many as the arm that has most. One that lacks a searched setting, as stock
    attention lacks the rate of a variant, tries more learning rates: the widest gap between two is halved
    until they are enough; around a single one they begin a factor of `REACH` below and above it.
    """
    assert config.search is not None
    own, most = _own(config, arm), max(_declared(config, other) for other in config.arms)
    combinations = math.prod(map(len, own.values()))
    stated = config.search.learning_rate or (config.run_config(cell, arm, config.seeds[0]).learning_rate,)
    rates = closer(stated, math.ceil(most / combinations))
    return [dict(zip([LEARNING_RATE, *own], values)) for values in product(rates, *own.values())]


def closer(rates: Sequence[float], count: int) -> list[float]:
    """Return at least `count` rates, sorted: those given, and others between them, to three digits."""
    found = sorted(rates)
    if len(found) == 1 and count > 1:
        found = [found[0] / REACH, found[0], found[0] * REACH]
    while len(found) < count:
        gaps = [above / below for below, above in pairwise(found)]
        widest = gaps.index(max(gaps))
        found.insert(widest + 1, float(f"{math.sqrt(found[widest] * found[widest + 1]):.3g}"))
    return found


def name_of_try(arm: str, setting: Setting) -> str:
    """Return the arm of a run of the search; no arm of the grid has a space in its name."""
    others = [f"{name}={value}" for name, value in setting.items() if name != LEARNING_RATE]
    return " ".join([arm, "at", repr(setting[LEARNING_RATE]), *others])


def searched_names(config: AblationConfig, arm: str) -> set[str]:
    """Return the settings of an arm that a search chooses; none without a search."""
    tried = trials(config, next(iter(config.cells)), arm) if config.search else []
    return {name for setting in tried for name in setting if setting[name] != tried[0][name]}


def _declared(config: AblationConfig, arm: str) -> int:
    """Return how many combinations of the searched settings an arm has."""
    assert config.search is not None
    return len(config.search.learning_rate or (0,)) * math.prod(map(len, _own(config, arm).values()))


def _own(config: AblationConfig, arm: str) -> dict[str, Sequence[Any]]:
    """Return the searched settings that an arm has, besides the learning rate, with their values."""
    assert config.search is not None
    chosen, found = config.arms[arm], dict[str, Sequence[Any]]()
    entries = [catalog.find(catalog.VARIANT, variant.name) for variant in chosen.attention]
    trains = any(entry is not None and entry.has_parameters for entry in entries)
    if config.search.variant_learning_rate and trains and chosen.set.get("train_variant", True):
        found[VARIANT_RATE] = sorted(config.search.variant_learning_rate)
    for name, values in config.search.options.items():
        if name.rpartition(".")[0] in {variant.name for variant in chosen.attention}:
            found[name] = values
    return found
