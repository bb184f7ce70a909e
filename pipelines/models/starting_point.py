"""Fix the model that a run starts from, before the run gets its identity: its commit and its attention.

Model and data from the Hub are pinned to the commits that their names mean now. A model that carries
variants continues with them: their parameters are among its weights, so no run that starts from it has stock
attention.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from pipelines.config.load import AblationConfig, RunConfig
from pipelines.errors import UserError
from pipelines.hub import address
from pipelines.hub.fetch import RUN, fetch_model, model_source
from pipelines.hub.pin import pinned_revision
from pipelines.registry.installed import require_installed
from pipelines.storage import reading
from pipelines.storage.run_folder import MANIFEST, RunFolder

KEY = "attnlab"  # entry of a config.json: which variants are attached where


class CarriedRecord(TypedDict):
    """The part of the entry `KEY` that is read here."""

    variants: list[list[Any]]  # name and options


class CarriedAttention(TypedDict, total=False):
    """Settings of a run that follow from the model it starts from; `where` only if its run is known."""

    attention: list[Any]  # as in YAML: a name, or {name: {option: value}}
    where: dict[str, Any]


def pinned_run(config: RunConfig) -> RunConfig:
    """Return the configuration with its model pinned, and with the attention that the model carries.

    Raises:
        UserError: the model carries another attention than the run states.
    """
    config = _pinned(config)
    carried = _carried(config)
    if carried is None:
        return config
    stated = [spec.model_dump(mode="json") for spec in config.attention]
    if stated and stated != carried["attention"]:
        what = f"the model carries the attention {carried['attention']}"
        raise UserError("attention", what, str(stated), "leave attention out, or start from another model")
    return RunConfig.model_validate({**config.to_dict(), **carried})


def pinned_ablation(config: AblationConfig) -> AblationConfig:
    """Return the ablation with the model of every cell pinned, the same for all arms.

    Raises:
        UserError: a model carries variants, so no arm could be stock attention.
    """
    cells = {name: _pinned(cell) for name, cell in config.cells.items()}
    for name, cell in cells.items():
        carried = _carried(cell)
        if carried is not None:
            what = f"its model carries the attention {carried['attention']}, so no arm could be stock"
            raise UserError(f"cells.{name}", what, accepted="start from a model of stock attention")
    return config.model_copy(update={"cells": cells})


def _pinned(config: RunConfig) -> RunConfig:
    """Put the commit that each name on the Hub means now beside it, or into an address `hub:ORG/NAME`."""
    model, data = config.model, config.data
    pinned: dict[str, str | None] = {}
    if model.name and address.is_address(model.name):
        named = f"{model.name}@{model.revision}" if model.revision else model.name
        pinned = {"name": _at_commit(named), "revision": None}
    elif model.name:
        pinned["revision"] = pinned_revision("models", model.name, model.revision)
    if model.tokenizer and address.is_address(model.tokenizer):
        pinned["tokenizer"] = _at_commit(model.tokenizer)
    elif model.tokenizer:
        name, revision = address.split_revision(model.tokenizer)
        revision = pinned_revision("models", name, revision)
        pinned["tokenizer"] = f"{name}@{revision}" if revision else name
    of_data = pinned_revision("datasets", data.name, data.revision) if data.name else data.revision
    return config.model_copy(
        update={
            "model": model.model_copy(update=pinned),
            "data": data.model_copy(update={"revision": of_data}),
        }
    )


def pins(config: RunConfig) -> list[str]:
    """Return command-line overrides that pin what is on the Hub for every process of a run."""
    pinned = _pinned(config)
    places = (("model", "name"), ("model", "revision"), ("model", "tokenizer"), ("data", "revision"))
    now = {(section, key): getattr(getattr(pinned, section), key) for section, key in places}
    return [
        f"{section}.{key}={'null' if value is None else value}"
        for (section, key), value in now.items()
        if value != getattr(getattr(config, section), key)
    ]


def _at_commit(name: str) -> str:
    return str(address.Address(address.parse(name).repo, fetch_model(name).commit))


def _carried(config: RunConfig) -> CarriedAttention | None:
    """Return the attention of the model that a run starts from; None where it is stock."""
    name = config.model.name
    if name is None:
        return None
    folder = Path(model_source(name))
    path = folder / "config.json"
    if not path.is_file():
        return None
    record = reading.json_object(path, "put it back as it was written").get(KEY)
    if record is None:
        return None
    record = reading.checked(CarriedRecord, record, str(path), "put it back as it was written")
    if address.is_address(name):
        require_installed((variant for variant, _ in record["variants"]), name)
    attention = [{variant: options} if options else variant for variant, options in record["variants"]]
    # The manifest of the run that trained the model: first place if it was pushed, second in a run folder.
    for manifest in (folder / RUN / MANIFEST, folder.parent / MANIFEST):
        if manifest.is_file():
            stored = RunFolder(manifest.parent).manifest() or {}
            where = stored.get("config", {}).get("where")
            if where is None:
                continue
            return {"attention": attention, "where": where}
    return {"attention": attention}
