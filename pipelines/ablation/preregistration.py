"""Pre-registration: the hypotheses of an ablation, stored before its first run."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from pipelines.ablation.cell import Cell
from pipelines.config.load import AblationConfig
from pipelines.errors import UserError
from pipelines.storage import atomic, reading
from pipelines.storage.names import ABLATION, REGISTRATION, REPORT_FILES, REPORTS, RESULTS, RUNS, SEARCH
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.temporary import sweep


def register(config: AblationConfig, folder: Path, cells: Sequence[Cell] = ()) -> None:
    """Write the ablation's configuration and, the first time only, its registration.

    Ablations share runs, so some of `cells` may have finished before. Their number per arm is stored too:
    those results could be seen before the registration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    path = folder / REGISTRATION
    if not path.exists():
        refuse_foreign(folder)
        declared = declaration(config)
        over = Counter(cell.arm for cell in cells if RunFolder(cell.folder).manifest() is not None)
        atomic.write_json(
            path,
            {
                "declared": declared,
                "hash": digest(declared),
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "finished_before": dict(over),
            },
        )
    atomic.write_yaml(folder / ABLATION, config.to_dict())


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder without a registration that holds a file under a name that an ablation writes.

    Raises:
        UserError: it names the file; nothing was written.
    """
    for name in (ABLATION, RUNS, SEARCH, RESULTS, REPORTS, *REPORT_FILES):
        if os.path.lexists(folder / name):
            what = f"holds {name}, but no {REGISTRATION}, so no ablation wrote it and nothing is written"
            raise UserError(str(folder), what, accepted="choose another --out")


def declaration(config: AblationConfig) -> dict[str, Any]:
    """Return what must not change once results are seen: hypotheses, margins, seeds, stopping rule."""
    return {
        "primary": dict(config.primary),
        "margin": dict(config.margin),
        "seeds": list(config.declared_seeds),
        "arms": sorted(config.arms),
        "baseline": config.baseline,
        "cells": sorted(config.cells),
        **({"search": config.search.model_dump(mode="json")} if config.search else {}),
        **({"assay": config.assay} if config.assay else {}),
        **({"collapse": dict(config.collapse)} if config.collapse else {}),
        "stopping_rule": "every run of the grid, once"
        if config.stopping is None
        else f"{config.stopping.rule}, at most {config.stopping.most_seeds} seeds",
    }


def digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a declaration."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Registered(TypedDict):
    """The content of registration.json."""

    declared: dict[str, Any]
    hash: str
    time: str
    finished_before: NotRequired[dict[str, int]]


def read_registration(folder: Path) -> Registered:
    """Return the registration of an ablation as it is stored.

    Raises:
        UserError: the file is missing or damaged.
    """
    fix = "put it back from a copy; deleted, attnlab ablate registers again, with its finished runs counted"
    found: Registered = reading.json_object(folder / REGISTRATION, fix, Registered)
    return found


def registration(config: AblationConfig, folder: Path) -> dict[str, Any]:
    """Return the stored registration, with the fields that `config` has changed since."""
    stored = read_registration(folder)
    now = declaration(config)
    declared = stored["declared"]
    changed = sorted(name for name in now | declared if now.get(name) != declared.get(name))
    return {**stored, "changed_afterwards": changed}
