"""A run's record without what belongs to this machine: what others need to check it and to run it again.

Paths become the names of the files; the identity of a run has their hashes, so whoever has the same files
can run the same run: `located` finds them there. References and predictions stay at home (they are the data
set's text); a hash of each line goes along, so that a repetition can still be told equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from pipelines.comparison.scored_run import HASHES, hashed_lines
from pipelines.errors import UserError, raise_all
from pipelines.hub.contents import CONTENTS
from pipelines.runs import identity
from pipelines.storage import atomic
from pipelines.storage.names import (
    DIAGNOSTICS_LOG,
    IDENTITY,
    MANIFEST,
    METRICS_LOG,
    PREDICTIONS,
    RUN,
    STATISTICS,
)
from pipelines.storage.paths import inside
from pipelines.storage.run_folder import RunFolder

LOCAL = (
    ("data", "train"),
    ("data", "validation"),
    ("data", "test"),
    ("model", "name"),
    ("model", "tokenizer"),
)
RECORD = (IDENTITY, METRICS_LOG, DIAGNOSTICS_LOG, STATISTICS.format("*"))


def copy_run(run: RunFolder, target: Path, names: Mapping[str, str]) -> None:
    """Write the portable record of a run that is over into a new folder; `names` as `names_of` gives them."""
    target.mkdir(parents=True)
    manifest = run.manifest()
    for pattern in RECORD:
        for path in sorted(run.path.glob(pattern)):
            atomic.write_bytes(target / path.name, path.read_bytes())
    for path in sorted(run.path.glob(PREDICTIONS.format("*"))):
        split = path.name.split(".")[1]
        lines = "".join(f"{digest.hex()}\n" for digest in hashed_lines(path))
        atomic.write_bytes(target / HASHES.format(split), lines.encode())
    config = renamed({key: value for key, value in manifest["config"].items() if key != "hub"}, names)
    atomic.write_yaml(target / RUN, config)
    files = {path.name: atomic.sha256_of(path) for path in sorted(target.iterdir())}
    files.pop(IDENTITY)  # the manifest knows it by the hash of the run
    portable = renamed({**manifest, "files": files}, names)
    atomic.write_json(target / MANIFEST, {**portable, "config": config})


def without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration with the names of local files and folders instead of their paths."""
    return renamed({key: value for key, value in config.items() if key != "hub"}, names_of([config]))


def names_of(configs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Every local path of some configurations, and the shortest end of it that no other one has."""
    values = (config[section][key] for config in configs for section, key in LOCAL)
    paths = {value for value in values if value is not None and PurePath(value).is_absolute()}
    return {path: _shortest_end(path, paths - {path}) for path in paths}


def _shortest_end(path: str, others: set[str]) -> str:
    parts = PurePath(path).parts[1:]
    ends = ("/".join(parts[-count:]) for count in range(1, len(parts)))
    return next((end for end in ends if not any(other.endswith(f"/{end}") for other in others)), parts[-1])


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A JSON value in which no text holds one of the paths any more."""
    if isinstance(value, Mapping):
        return {renamed(key, names): renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [renamed(inner, names) for inner in value]
    if isinstance(value, str):
        for path in sorted(names, key=len, reverse=True):
            value = value.replace(path, names[path])
    return value


# ---- on another machine
def located(values: dict[str, Any], record: Path, runs: Iterable[RunFolder]) -> dict[str, Any]:
    """A run's or an ablation's settings with paths of this machine for the names of files that travelled.

    Each is looked for under its name in the working folder, and must have the content that the runs read.

    Args:
        record: the folder that the settings are from. What was pushed names nothing outside of the working
            folder; a record of this machine has its paths.

    Raises:
        UserError: with every file that is missing or another one, or a name that leads elsewhere.
    """
    if (record.parent / CONTENTS).is_file():
        for name in _names(values):
            inside(Path.cwd(), name, str(record))
    paths, errors = {}, []
    for name, content in _known(runs).items():
        path = Path(name).resolve()
        if identity.content_of(str(path)) == content:
            paths[name] = str(path)
            continue
        what = "is not the one that the run read" if path.exists() else "is not here, and does not travel"
        errors.append(UserError(name, what, accepted=f"put what has {content} at {path}"))
    raise_all(errors)
    return _with(values, paths)


def _known(runs: Iterable[RunFolder]) -> dict[str, str]:
    """Names of local files and folders in the records of runs, and the hash of what each held."""
    known = {}
    for run in runs:
        config, described = run.manifest()["config"], run.identity()["config"]
        for section, key in LOCAL:
            name, content = config[section][key], described[section][key]
            if content is not None and content.startswith("sha256:") and not PurePath(name).is_absolute():
                known[name] = content
    return known


def _names(values: Any) -> Iterator[str]:
    """What settings, nested or not, have where a local file or folder may be named."""
    if isinstance(values, dict):
        for section, key in LOCAL:
            part = values.get(section)
            if isinstance(part, dict) and part.get(key) is not None:
                yield part[key]
        for value in values.values():
            yield from _names(value)


def _with(values: Any, paths: Mapping[str, str]) -> Any:
    """Settings, nested or not, in which every name of a local file is its path."""
    if not isinstance(values, dict):
        return values
    found = {key: _with(value, paths) for key, value in values.items()}
    for section, key in LOCAL:
        part = found.get(section)
        if isinstance(part, dict) and part.get(key) in paths:
            part[key] = paths[part[key]]
    return found
