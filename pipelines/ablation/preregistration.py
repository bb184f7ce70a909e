"""Pre-registration: what an ablation set out to test, written down before its first run."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.ablation.cell import Cell
from pipelines.config.load import AblationConfig
from pipelines.storage import atomic
from pipelines.storage.names import ABLATION, REGISTRATION
from pipelines.storage.run_folder import RunFolder


def register(config: AblationConfig, folder: Path, cells: Sequence[Cell] = ()) -> None:
    """Write the ablation and, once and for all, what it set out to test.

    Runs are shared between ablations, so some of the grid `cells` may be over already: their number is
    written down with it, for what was seen before was not declared before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_yaml(folder / ABLATION, config.to_dict())
    path = folder / REGISTRATION
    if not path.exists():
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


def declaration(config: AblationConfig) -> dict[str, Any]:
    """What must not change once numbers are seen: hypotheses, margins, seeds and the stopping rule."""
    return {
        "primary": dict(config.primary),
        "margin": dict(config.margin),
        "seeds": list(config.seeds),
        "arms": sorted(config.arms),
        "baseline": config.baseline,
        "cells": sorted(config.cells),
        **({"search": config.search.model_dump(mode="json")} if config.search else {}),
        "stopping_rule": "every run of the grid, once",
    }


def digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def registration(config: AblationConfig, folder: Path) -> dict[str, Any]:
    """The registration on disk, and which of its fields are different by now."""
    stored = json.loads((folder / REGISTRATION).read_text(encoding="utf-8"))
    now = declaration(config)
    declared = stored["declared"]
    changed = sorted(name for name in now | declared if now.get(name) != declared.get(name))
    return {**stored, "changed_afterwards": changed}
