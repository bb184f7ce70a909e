"""Which model a run begins with, settled before the run has an identity: one commit, and its attention.

A model from the Hub is pinned to the commit that its name means now. One that carries variants continues
with them: their parameters are among its weights, so a run cannot begin with it and say "stock".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.config.load import AblationConfig, RunConfig
from pipelines.errors import UserError
from pipelines.hub import address
from pipelines.hub.fetch import RUN, fetch_model
from pipelines.storage.run_folder import MANIFEST

KEY = "attnlab"  # in a config.json: which variants are attached where


def pinned_run(config: RunConfig) -> RunConfig:
    """The configuration with its model pinned, and with the attention that the model carries.

    Raises:
        UserError: the model carries another attention than the run asks for.
    """
    config = _pinned(config)
    carried = _carried(config)
    if carried is None:
        return config
    asked = [spec.model_dump(mode="json") for spec in config.attention]
    if asked and asked != carried["attention"]:
        words, accepted = f"the model carries the attention {carried['attention']}", "leave attention out"
        raise UserError("attention", words, str(asked), f"{accepted}, or begin with another model")
    return RunConfig.model_validate(config.to_dict() | carried)


def pinned_ablation(config: AblationConfig) -> AblationConfig:
    """The ablation with the model of every cell pinned, the same for all arms.

    Raises:
        UserError: a model carries variants: no arm could be stock attention.
    """
    cells = {name: _pinned(cell) for name, cell in config.cells.items()}
    for name, cell in cells.items():
        carried = _carried(cell)
        if carried is not None:
            what = f"its model carries the attention {carried['attention']}, so no arm could be stock"
            raise UserError(f"cells.{name}", what, accepted="begin with a model of stock attention")
    return config.model_copy(update={"cells": cells})


def _pinned(config: RunConfig) -> RunConfig:
    """`hub:ORG/NAME` with the commit that it means now."""
    model = config.model
    pinned: dict[str, Any] = {}
    if address.is_address(model.name):
        named = f"{model.name}@{model.revision}" if model.revision else model.name
        pinned = {"name": _at_commit(named), "revision": None}
    if address.is_address(model.tokenizer):
        pinned["tokenizer"] = _at_commit(model.tokenizer)
    return config.model_copy(update={"model": model.model_copy(update=pinned)})


def pins(config: RunConfig) -> list[str]:
    """Overrides by which every process that reads these settings means the same commits of the Hub."""
    named = [key for key in ("name", "tokenizer") if address.is_address(getattr(config.model, key))]
    model = _pinned(config).model
    found = [f"model.{key}={getattr(model, key)}" for key in named]
    return [*found, "model.revision=null"] if "name" in named else found


def _at_commit(name: str) -> str:
    return str(address.Address(address.parse(name).repo, fetch_model(name).commit))


def _carried(config: RunConfig) -> dict[str, Any] | None:
    """The `attention` and `where` of the model that a run begins with; None where it is stock."""
    name = config.model.name
    if name is None:
        return None
    folder = fetch_model(name).folder if address.is_address(name) else Path(name)
    path = folder / "config.json"
    record = json.loads(path.read_text(encoding="utf-8")).get(KEY) if path.is_file() else None
    if record is None:
        return None
    attention = [{variant: options} if options else variant for variant, options in record["variants"]]
    beside = [folder / RUN / MANIFEST, folder.parent / MANIFEST]  # of what was pushed; of a run folder
    there = [json.loads(path.read_text(encoding="utf-8"))["config"] for path in beside if path.is_file()]
    return {"attention": attention} | ({"where": there[0]["where"]} if there else {})
