"""Refuse to resume a run with other settings, or under other conditions, than it was started with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.config.load import RunConfig
from pipelines.errors import UserError
from pipelines.runs import identity
from pipelines.runs.environment import environment
from pipelines.storage import atomic, reading
from pipelines.storage.names import CONDITIONS
from pipelines.storage.removal import BEFORE_IDENTITY, refuse_strangers
from pipelines.storage.run_folder import RunFolder

# Conditions are no part of a run's identity but change the last bits of its numbers. Some are settings of the
# run, the others are entries of its environment.
SETTINGS = ("sharding", "eval_max_tokens")
ENVIRONMENT = ("device", "deterministic", "processes", "threads", "max_tokens", "versions")


def refuse_another_run(folder: RunFolder, described: Mapping[str, Any]) -> None:
    """Refuse a folder that holds another run, or files that no run wrote.

    Raises:
        UserError: it names the fields that differ, or the files.
    """
    before = folder.identity()
    if before is None:
        if folder.path.is_dir():
            refuse_strangers(folder.path, BEFORE_IDENTITY, "is written")
    elif before != described:
        what = f"this folder holds another run: {_listed(before, described)}"
        raise UserError(str(folder.path), what, accepted="choose another --out, or --fresh")


def refuse_other_conditions(folder: RunFolder, config: RunConfig, device: str, *, writes: bool) -> None:
    """Refuse to resume from checkpoints that were written under other conditions; record those of a new run.

    A resumed run ends with the same bits as an uninterrupted one only under the same conditions.

    Args:
        device: its type, such as "cpu".
        writes: whether this process records the conditions of a run without checkpoints.

    Raises:
        UserError: it names the conditions that differ.
    """
    settings = config.to_dict()
    found: Mapping[str, object] = environment(settings, device)
    now = {name: settings[name] for name in SETTINGS} | {name: found[name] for name in ENVIRONMENT}
    path = folder.checkpoints / CONDITIONS
    if folder.newest_step():
        before = reading.json_object(path, "start again with --fresh")
        if before != now:
            what = f"its checkpoints were written under other conditions: {_listed(before, now)}"
            accepted = "put that back, or start again with --fresh"
            raise UserError(str(folder.path), what, accepted=accepted)
    elif writes:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(path, now)


def _listed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    changed = identity.differences(before, now)
    return "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
