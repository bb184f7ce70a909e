"""A run goes on as it began or not at all: other settings and other conditions are refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipelines.config.load import RunConfig
from pipelines.errors import UserError
from pipelines.runs import identity
from pipelines.runs.environment import environment
from pipelines.storage import atomic
from pipelines.storage.run_folder import RunFolder

CONDITIONS = "conditions.json"  # among the checkpoints, and gone with them
# What is no part of what a run is, but changes the last bits of its numbers: of its settings, and of what its
# manifest says of the machine.
SETTINGS = ("sharding", "eval_max_tokens")
FACTS = ("device", "deterministic", "processes", "threads", "max_tokens", "versions")


def refuse_another_run(folder: RunFolder, described: Mapping[str, Any]) -> None:
    """A folder belongs to one run; another configuration never continues it.

    Raises:
        UserError: naming the fields that differ.
    """
    before = folder.identity()
    if before is not None and before != described:
        what = f"this folder holds another run: {_listed(before, described)}"
        raise UserError(str(folder.path), what, accepted="choose another --out, or --fresh")


def refuse_other_conditions(folder: RunFolder, config: RunConfig, device: str, *, writes: bool) -> None:
    """Checkpoints are gone on from under the conditions they were written under: bits are promised.

    Args:
        device: the kind, such as "cpu".
        writes: whether this process writes down the conditions of a run that begins.

    Raises:
        UserError: naming the conditions that differ.
    """
    settings = config.to_dict()
    facts = environment(settings, device)
    now = {name: settings[name] for name in SETTINGS} | {name: facts[name] for name in FACTS}
    path = folder.checkpoints / CONDITIONS
    if folder.newest_step() and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != now:
            what = f"its checkpoints were written under other conditions: {_listed(before, now)}"
            accepted = "put that back, or begin again with --fresh"
            raise UserError(str(folder.path), what, accepted=accepted)
    elif writes:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(path, now)


def _listed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    changed = identity.differences(before, now)
    return "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
