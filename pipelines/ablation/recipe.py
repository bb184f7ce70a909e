"""What was run, for results.json: the recipe of every cell, and what each of its arms changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import yaml

from pipelines.ablation.trials import Setting
from pipelines.comparison.recipe import ArmRecipe, CellRecipe, Change
from pipelines.config import describe
from pipelines.config.load import AblationConfig
from pipelines.storage.paths import files_of

NEITHER = ("seed", "attention", "where")  # seeds are paired; the others are told as a whole


def of_cell(
    config: AblationConfig, name: str, chosen: Mapping[str, Setting], num_examples: Mapping[str, int]
) -> CellRecipe:
    """Return the recipe of a cell.

    Args:
        chosen: arm -> what a search chose for it.
        num_examples: split -> examples, as a run of the cell has counted them.
    """
    runs = {
        arm: config.run_config(name, arm, config.seeds[0], searched=chosen.get(arm)).to_dict()
        for arm in config.arms
    }
    run = runs[config.baseline]
    task, model, data = run["task"], run["model"], run["data"]
    alike = set(CellRecipe.__dataclass_fields__) & set(run) - {"task", "model", "data", "attention"}
    return CellRecipe(
        **{key: _as_stored(run[key]) for key in alike},
        task=task["name"],
        task_options=without_folders({key: value for key, value in task.items() if key != "name"}),
        model=without_folders(model["name"]) if model["name"] else f"{model['architecture']} from scratch",
        model_revision=model["revision"],
        family=model["family"],
        model_config=without_folders(model["config"]),
        data=_data(data),
        data_revision=data["revision"],
        num_examples=num_examples,
        lora_rank=run["lora"]["rank"] if run["lora"] else None,
        seeds=tuple(config.seeds),
        attention=describe.attention(run["attention"]),
        arms={
            arm: ArmRecipe(tuple(_changes(config, arm, run, runs[arm])), _entry(config, arm)) for arm in runs
        },
    )


def _as_stored(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _data(data: Mapping[str, Any]) -> str:
    """Return the name of the data: of a dataset with its configuration, a generator, or the files."""
    if data["generated"]:
        return f"generated {data['generated']['name']}"
    if data["name"]:
        return " ".join(part for part in (data["name"], data["config"]) if part)
    files = [file for split in ("train", "validation", "test") for file in files_of(data[split])]
    return ", ".join(dict.fromkeys(without_folders(file) for file in files))


def _changes(
    config: AblationConfig, arm: str, baseline: Mapping[str, Any], run: Mapping[str, Any]
) -> Iterator[Change]:
    """Yield the settings of an arm that differ from the baseline's, attention first."""
    attention = [without_folders(one["attention"]) for one in (baseline, run)]
    if attention[0] != attention[1]:
        yield Change("attention", *attention)
    where = [one["where"] if one["attention"] else {} for one in (baseline, run)]
    flat = [dict(_flat({key: one[key] for key in one if key not in NEITHER})) for one in (baseline, run)]
    for one, sites in zip(flat, where):
        one.update(
            _flat({"where": {key: value for key, value in sites.items() if value not in (None, "all")}})
        )
    for key in dict.fromkeys([*flat[0], *flat[1]]):
        before, now = flat[0].get(key), flat[1].get(key)
        if before != now:
            yield Change(key, without_folders(before), without_folders(now))
    offsets = [config.arms[name].seed_offset for name in (config.baseline, arm)]
    if offsets[0] != offsets[1]:
        yield Change("seed_offset", *offsets)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _entry(config: AblationConfig, arm: str) -> str:
    """Return an arm as an ablation file states it, without what is the default."""
    stated = config.arms[arm].model_dump(mode="json", exclude_defaults=True)
    entry = stated.get("attention", []) if stated.keys() <= {"attention"} else stated
    dumped: str = yaml.safe_dump(
        {arm: without_folders(entry)}, sort_keys=False, allow_unicode=True, default_flow_style=None
    )
    return dumped


def without_folders(value: Any) -> Any:
    """Return a setting with the absolute paths in it replaced by their last names, keys sorted."""
    if isinstance(value, Mapping):
        return {key: without_folders(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    if isinstance(value, str) and PurePath(value).is_absolute():
        path = PurePath(value)
        return path.parent.name if path.name == "model" else path.name  # the model of a run
    return value
