"""Remove what a run has written, name by name: no file of anyone else, and nothing behind a link."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from pipelines.errors import UserError
from pipelines.storage import temporary
from pipelines.storage.lock import lock
from pipelines.storage.names import (
    CHECKPOINTS,
    CONDITIONS,
    DIAGNOSTICS_LOG,
    FAILURE,
    HUB,
    IDENTITY,
    LOCK,
    LOG,
    MANIFEST,
    METRICS_LOG,
    MODEL,
    PREDICTIONS,
    PROCESSOR_FILES,
    RUN,
    SEAL,
    STARTS,
    STATISTICS,
    TRACKERS,
    WEIGHT_FILES,
)

SPLITS = ("train", "validation", "test")
CHECKPOINT_FILES = ("model.safetensors", "optimizer.safetensors", "state.json", SEAL)  # of one
STEP = "step-" + 8 * "[0-9]"  # the folder of a checkpoint
CHECKPOINTS_FILES = (
    CONDITIONS,
    *(f"{step}/{name}" for step in (STEP, f"{STEP}.invalid-*") for name in CHECKPOINT_FILES),
)
TENSORBOARD = tuple(f"{'*/' * depth}events.out.tfevents.*" for depth in range(5))
BEFORE_IDENTITY = (LOCK, f"{LOCK}.break.*", LOG, FAILURE, STARTS, f"{CHECKPOINTS}/{CONDITIONS}")
# Paths below the folder of a run; `*` stands for one part of a name, not for a folder.
RUN_FILES = (
    *BEFORE_IDENTITY,
    *(RUN, IDENTITY, MANIFEST, METRICS_LOG, DIAGNOSTICS_LOG),
    *(name.format(split) for split in SPLITS for name in (PREDICTIONS, STATISTICS)),
    *(f"{CHECKPOINTS}/{name}" for name in CHECKPOINTS_FILES),
    *(f"{MODEL}/{name}" for name in (*WEIGHT_FILES, *PROCESSOR_FILES)),
    *(f"{TRACKERS}/{name}" for name in (*TENSORBOARD, "*/hparams.yml", "*/*/hparams.yml")),
    *(f"{HUB}/{name}" for name in (LOCK, "*@*.json")),
)


def remove_run(run: Path) -> None:
    """Remove the folder of a run, unless it holds anything that no run writes; a missing one is fine.

    Raises:
        UserError: it is a link, no run folder, or holds something else. Nothing was removed.
        Busy: a process works on it.
    """
    refuse_working_folder(run)
    if run.is_symlink():
        raise UserError(str(run), "is a link, so nothing is removed", accepted="name the folder itself")
    if not run.exists() or (run.is_dir() and not any(run.iterdir())):
        return
    if not any((run / name).is_file() for name in (IDENTITY, MANIFEST, LOCK)):
        raise UserError(str(run), "is no run folder, so nothing is removed", accepted="choose another folder")
    temporary.sweep(run / HUB)
    listed = _listed(run)
    refuse_strangers(run, (*RUN_FILES, *listed), "is removed")
    with lock(run / LOCK):
        remove_files(run, listed)  # first, while the records name them
        remove_files(run, tuple({*RUN_FILES} - {IDENTITY, LOCK}))
        (run / IDENTITY).unlink(missing_ok=True)  # last: with it, what a kill leaves is still a run folder
    _remove_if_empty(run)


def refuse_working_folder(folder: Path) -> None:
    """Refuse the working folder, and every folder that it is in, as the folder of a run.

    Raises:
        UserError: it is one of these.
    """
    if Path.cwd().is_relative_to(folder.resolve()):
        what = "is the working folder or holds it, and a run needs a folder of its own"
        raise UserError(str(folder), what, accepted="choose another --out")


def refuse_strangers(folder: Path, patterns: tuple[str, ...], what: str) -> None:
    """Refuse a folder that holds anything but files of these names.

    Args:
        what: what is not done therefore, as "is removed".

    Raises:
        UserError: it names the first ones.
    """
    found = sorted(str(path.relative_to(folder)) for path in _strangers(folder, patterns))
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        holds = f"holds {', '.join(found[:3])}{more}, which attnlab does not write there, so nothing {what}"
        raise UserError(str(folder), holds, accepted="move that away or choose another folder")


def remove_files(folder: Path, patterns: tuple[str, ...]) -> None:
    """Remove the files of these names, and the folders that are empty then; whatever else is there stays."""
    if folder.is_symlink() or not folder.is_dir():
        return
    inside = list(_inside(folder))
    for path in inside:
        if not path.is_dir() and _is_ours(path, folder, patterns):
            path.unlink(missing_ok=True)
    for path in [*(path for path in reversed(inside) if path.is_dir() and not path.is_symlink()), folder]:
        _remove_if_empty(path)


def remove_listed(folder: Path, names: Mapping[str, object]) -> None:
    """Remove the files of a record, by their names in it, and the folders that are empty then."""
    remove_files(folder, tuple(map(_literal, names)))


def refuse_listed_only(folder: Path, names: Mapping[str, object], what: str) -> None:
    """Refuse a folder that holds anything but the files of a record; arguments as of `refuse_strangers`."""
    refuse_strangers(folder, tuple(map(_literal, names)), what)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _strangers(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    """Yield what no pattern names: files, links, and folders that are empty or stand for a file."""
    parents = {parent for pattern in patterns for parent in _parents(pattern)}
    for path in _inside(folder):
        if path.is_dir() and not path.is_symlink():
            name = path.relative_to(folder).as_posix()
            if not any(_fits(name, parent) for parent in parents) and not any(path.iterdir()):
                yield path
        elif not _is_ours(path, folder, patterns):
            yield path


def _inside(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder, a folder before its content; a link is not followed."""
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _inside(path)


def _is_ours(path: Path, folder: Path, patterns: tuple[str, ...]) -> bool:
    """Whether a path is a regular file under one of the names, or a temporary file of one."""
    if path.is_symlink() or not path.is_file():
        return False
    temporary_name = temporary.NAME.fullmatch(path.name)
    named = path.with_name(temporary_name["of"]) if temporary_name else path
    name = named.relative_to(folder).as_posix()
    return any(_fits(name, pattern) for pattern in patterns)


def _fits(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _parents(pattern: str) -> list[str]:
    parts = pattern.split("/")[:-1]
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _listed(run: Path) -> tuple[str, ...]:
    """Return the names in the records of a run: its own, and those of its pushes."""
    names = list(_files(run / MANIFEST))
    for record in (run / HUB).glob("*@*.json"):
        names += [f"{HUB}/{record.stem}/{name}" for name in _files(record)]
    return tuple(map(_literal, names))


def _files(record: Path) -> list[str]:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or damaged: it lists nothing
        return []
    files = found.get("files") if isinstance(found, dict) else None
    return list(files) if isinstance(files, dict) else []


def _literal(name: str) -> str:
    return name.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
