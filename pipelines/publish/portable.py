"""The portable record of a run: what others need to check it and to run it again, without local paths.

Paths are replaced by names of files. The identity of a run has the hashes of these files, so whoever has the
same files can repeat the run: `locate_files` finds them. References and predictions are not copied (they are
the text of the data set). A hash of each line is, so that a repetition can be compared with the original.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import Any, TypeAlias

from pipelines.comparison.scored_run import HASHES, hashed_lines, without_names
from pipelines.errors import UserError, raise_all, without_values
from pipelines.hub.contents import CONTENTS
from pipelines.runs import identity
from pipelines.storage import atomic, reading, run_files
from pipelines.storage.names import (
    DIAGNOSTICS_LOG,
    IDENTITY,
    MANIFEST,
    METRICS_LOG,
    PREDICTIONS,
    RUN,
    STATISTICS,
)
from pipelines.storage.paths import files_of, inside
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import sealed

Manifest: TypeAlias = Mapping[str, Any]  # as JSON
# The settings (section, key) that may name a local file or folder.
LOCAL_PATHS = (
    ("data", "train"),
    ("data", "validation"),
    ("data", "test"),
    ("model", "name"),
    ("model", "tokenizer"),
)
RECORD = (IDENTITY, METRICS_LOG, DIAGNOSTICS_LOG, STATISTICS.format("*"))


def manifest_of(run: RunFolder) -> Manifest:
    """Return the manifest of a run that has ended.

    Raises:
        UserError: the folder holds no such run.
    """
    manifest = run.manifest()
    if manifest is None:
        what = "is neither a finished run nor an ablation"
        raise UserError(str(run.path), what, accepted="see attnlab ls runs")
    return manifest


def identity_of(run: RunFolder) -> Mapping[str, Any]:
    """Return the identity of a run: its settings, with a hash for the content of every local file.

    Raises:
        UserError: the folder has none.
    """
    stored = run.identity()
    if stored is None:
        raise UserError(str(run.path), "has no identity.json", accepted="name the folder of a run")
    return stored


def copy_run(run: RunFolder, target: Path, names: Mapping[str, str]) -> None:
    """Write the portable record of a run that has ended into a new folder `target`.

    Args:
        names: local path -> name, from `portable_names`.
    """
    target.mkdir(parents=True)
    manifest = manifest_of(run)
    shows_text = bool(manifest["config"]["data"].get("publish_text"))
    for pattern in RECORD:
        for path in _listed(run, manifest, pattern):
            is_named = fnmatch(path.name, STATISTICS.format("*")) and not shows_text
            fix = run_files.train_again(run.path)
            content = without_names(path) if is_named else reading.content(path, fix)
            atomic.write_bytes(target / path.name, content)
    for path in _listed(run, manifest, PREDICTIONS.format("*")):
        split = path.name.split(".")[1]
        lines = "".join(f"{digest.hex()}\n" for digest in hashed_lines(path))
        atomic.write_bytes(target / HASHES.format(split), lines.encode())
    config = replace_paths({key: value for key, value in manifest["config"].items() if key != "hub"}, names)
    atomic.write_yaml(target / RUN, config)
    files = {path.name: atomic.sha256_of(path) for path in sorted(target.iterdir())}
    files.pop(IDENTITY)  # the manifest knows it by the hash of the run
    data = {**manifest["data"]}
    if not shows_text:
        data["notes"] = [without_values(note) for note in data.get("notes", ())]
    portable = replace_paths({**manifest, "data": data, "files": files}, names)
    atomic.write_json(target / MANIFEST, sealed({**portable, "config": config}))


def _listed(run: RunFolder, manifest: Manifest, pattern: str) -> list[Path]:
    """Return the files of a pattern that the run wrote: another one beside them is never copied."""
    names = sorted(name for name in (IDENTITY, *manifest["files"]) if fnmatch(name, pattern))
    return [inside(run.path, name, str(run.path / MANIFEST)) for name in names]


def without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's configuration with names of files and folders instead of local paths."""
    return replace_paths(
        {key: value for key, value in config.items() if key != "hub"}, portable_names([config])
    )


def portable_names(configs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Map every local path of some configurations to its shortest end that no other path has."""
    values = (
        file for config in configs for section, key in LOCAL_PATHS for file in files_of(config[section][key])
    )
    paths = {value for value in values if value is not None and PurePath(value).is_absolute()}
    return {path: _shortest_end(path, paths - {path}) for path in paths}


def _shortest_end(path: str, others: set[str]) -> str:
    parts = PurePath(path).parts[1:]
    ends = ("/".join(parts[-count:]) for count in range(1, len(parts)))
    return next((end for end in ends if not any(other.endswith(f"/{end}") for other in others)), parts[-1])


def replace_paths(value: Any, names: Mapping[str, str]) -> Any:
    """Return a JSON value with every path of `names` in its texts replaced by its name."""
    if isinstance(value, Mapping):
        return {replace_paths(key, names): replace_paths(inner, names) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [replace_paths(inner, names) for inner in value]
    if isinstance(value, str):
        for path in sorted(names, key=len, reverse=True):  # a folder may be the start of another path
            value = value.replace(path, names[path])
    return value


# ---- on another machine
def locate_files(values: dict[str, Any], record: Path, runs: Iterable[RunFolder]) -> dict[str, Any]:
    """Return the settings of a run or an ablation with local paths instead of names of files.

    Each file is searched under its name in the working folder, and must have the content that the runs read.

    Args:
        record: the folder of the settings. If it was downloaded, no name in it may lead out of the working
            folder; a record of this machine may hold paths.

    Raises:
        UserError: it names every file that is missing or has another content, or a name that leads elsewhere.
    """
    if (record.parent / CONTENTS).is_file():
        for name in _local_names(values):
            inside(Path.cwd(), name, str(record))
    paths: dict[str, str] = {}
    errors: list[UserError] = []
    wanted = set(_local_names(values))
    for name, content in _contents_by_name(runs).items():
        if name not in wanted:
            continue
        path = Path(name).resolve()
        if identity.content_of(str(path)) == content:
            paths[name] = str(path)
            continue
        what = "differs from what the run read" if path.exists() else "is missing, and is never pushed"
        errors.append(UserError(name, what, accepted=f"put the file with {content} at {path}"))
    raise_all(errors)
    return _with_paths(values, paths)


def _contents_by_name(runs: Iterable[RunFolder]) -> dict[str, str]:
    """Map the names of files and folders in the records of runs to the hashes of their contents."""
    known = {}
    for run in runs:
        config, described = manifest_of(run)["config"], identity_of(run)["config"]
        for section, key in LOCAL_PATHS:
            for name, content in zip(files_of(config[section][key]), files_of(described[section][key])):
                if content.startswith("sha256:") and not PurePath(name).is_absolute():
                    known[name] = content
    return known


def _local_names(values: object) -> Iterator[str]:
    """Yield every value of nested settings that may name a local file or folder."""
    if isinstance(values, dict):
        for section, key in LOCAL_PATHS:
            part = values.get(section)
            if isinstance(part, dict):
                yield from files_of(part.get(key))
        for value in values.values():
            yield from _local_names(value)


def _with_paths(values: Any, paths: Mapping[str, str]) -> Any:
    """Return nested settings in which every name of a local file is replaced by its path."""
    if not isinstance(values, dict):
        return values
    found = {key: _with_paths(value, paths) for key, value in values.items()}
    for section, key in LOCAL_PATHS:
        part = found.get(section)
        if not isinstance(part, dict):
            continue
        if isinstance(part.get(key), dict):
            part[key] = {column: paths.get(name, name) for column, name in part[key].items()}
        elif part.get(key) in paths:
            part[key] = paths[part[key]]
    return found
