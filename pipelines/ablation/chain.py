"""Whether the runs of an ablation were trained under its registration, as their manifests say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.ablation.cell import Cell
from pipelines.ablation.preregistration import Registered, read_registration, seals, short
from pipelines.errors import UserError
from pipelines.hub.contents import CONTENTS
from pipelines.runs.manifest import read_manifest
from pipelines.storage.names import REGISTRATION
from pipelines.storage.run_folder import RunFolder


def differences(folder: Path, registered: Registered, baseline: str, runs: Sequence[Cell]) -> Iterator[str]:
    """Yield what contradicts a registration: the folder that it lies in, and runs.

    A run under another registration was there when this one was made, or belongs to an ablation beside it;
    else this registration was written or changed after its runs. A run of an arm under this registration,
    of which an equal run was there before, was made again although its result could be seen.

    Args:
        folder: of the ablation. One that was downloaded has no other ablations beside it.
    """
    name, now = registered.get("name"), folder.resolve().name
    if name not in (None, now) and not _is_download(folder):
        yield f"was made for the folder {name}, and this one is {now}: renamed, or a copy"
    known, own = set(registered.get("finished_runs", ())), seals(registered)
    beside = None if _is_download(folder) else _seals_beside(folder)
    for run in {run.folder: run for run in runs}.values():
        manifest = read_manifest(RunFolder(run.folder))
        if manifest is None:
            continue
        under, was_there = manifest.get("registration"), short(manifest["run_hash"]) in known
        if under is None:
            if not was_there and "finished_runs" in registered:  # 0.1 chained no run
                yield f"{run.label} was trained under no registration"
        elif under in own:
            if was_there and run.arm_in_grid != baseline:
                yield f"{run.label} existed before it and was made again"
        elif not was_there and beside is not None and under not in beside:
            yield f"{run.label} was trained under another registration, {short(under)}"


def _is_download(folder: Path) -> bool:
    return (folder.parent / CONTENTS).is_file()


def _seals_beside(folder: Path) -> set[str]:
    """Return the seals of the registrations of all ablations that share the runs of one."""
    found = set()
    for path in sorted(folder.resolve().parent.glob(f"*/{REGISTRATION}")):
        try:
            registered = read_registration(path.parent)
        except UserError:  # damaged, so its own ablation is refused; it vouches for nothing here
            continue
        if registered.get("name") in (None, path.parent.name):  # nor does a copy
            found.update(seals(registered))
    return found
