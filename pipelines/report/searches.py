"""What a search tried and chose, in words."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.comparison.results import SettingSearch
from pipelines.report import format as fmt
from pipelines.report.data import ReportData


def sentences(facts: ReportData) -> str:
    """Return how a search chose settings, as sentences; empty where the configuration states them."""
    found = {
        (cell, arm): search
        for cell in facts.cells
        for arm in facts.arms
        if (search := facts.summary(cell, arm).search) is not None
    }
    if not found:
        return ""
    of_all = list(found.values())
    places = {(cell, arm): f"{arm} on {cell}" if len(facts.cells) > 1 else arm for cell, arm in found}
    fewest = fmt.plural(min(map(_num_runs, of_all)), "run")
    if len({_tried(one) for one in of_all}) == 1 and not of_all[0].settings:
        chosen = "; ".join(f"{places[key]} {one.chosen:g}" for key, one in found.items())
        return (
            f"Every arm was given the same search on validation data, {fewest} over the "
            f"{_tried(of_all[0])}; chosen: {chosen}. "
        )
    each = (
        f"{places[key]}: {fmt.plural(_num_runs(one), 'run')} over {_tried(one)}, chosen "
        f"{setting(one.chosen, one.settings)}"
        for key, one in found.items()
    )
    return f"Every arm was given a search of at least {fewest} on validation data: {'; '.join(each)}. "


def setting(learning_rate: float, others: Mapping[str, object] | None) -> str:
    """Return a setting of a search: "learning rate 0.001, gate.start small"."""
    texts = (f"{_name(name)} {_value(value)}" for name, value in _in_order(others))
    return ", ".join([f"learning rate {learning_rate:g}", *texts])


def _num_runs(search: SettingSearch) -> int:
    return len(search.tried) * len(search.seeds)


def _tried(search: SettingSearch) -> str:
    """Return the values that an arm tried: "learning rates 0.001 and 0.01 x gate.start zero and small"."""
    values: dict[str, list[object]] = {"learning rates": [one.learning_rate for one in search.tried]}
    for one in search.tried:
        for name, value in _in_order(one.settings):
            values.setdefault(_name(name, ending="s"), []).append(value)
    return " x ".join(
        f"{name} {fmt.listing(list(dict.fromkeys(map(_value, found))))}" for name, found in values.items()
    )


def _in_order(others: Mapping[str, object] | None) -> list[tuple[str, object]]:
    """Return settings of a run first, then options of variants, each by name: a stored file has no order."""
    return sorted((others or {}).items(), key=lambda item: ("." in item[0], item[0]))


def _name(name: str, ending: str = "") -> str:
    """Return a searched setting as a text; an option of a variant keeps its name."""
    return name if "." in name else f"{name.replace('_', ' ')}{ending}"


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
