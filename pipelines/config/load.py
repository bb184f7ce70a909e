"""Load YAML files and overrides as one checked, frozen configuration of a run or an ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipelines.config import ablation_file as arms
from pipelines.config import checks, yaml_source
from pipelines.config.ablation import AblationConfig, AblationFile, ArmConfig
from pipelines.config.data import DataConfig, GeneratedSpec
from pipelines.config.model_entries import wrong_entries
from pipelines.config.model_sizes import wrong_sizes
from pipelines.config.names import unknown_names
from pipelines.config.run import (
    RUN_EXECUTION_KEYS,
    ModelConfig,
    RunConfig,
    TaskSpec,
    VariantSpec,
    WhereConfig,
)
from pipelines.config.schema_errors import user_errors
from pipelines.config.searched import search_errors
from pipelines.config.suggestions import perhaps
from pipelines.config.user_settings import UserSettings, settings_file
from pipelines.config.yaml_source import Document, Place
from pipelines.errors import UserError, raise_all

__all__ = [
    "RUN_EXECUTION_KEYS",
    "AblationConfig",
    "ArmConfig",
    "DataConfig",
    "GeneratedSpec",
    "ModelConfig",
    "RunConfig",
    "TaskSpec",
    "VariantSpec",
    "WhereConfig",
    "ablation_from_dict",
    "is_ablation",
    "load_ablation",
    "load_run",
    "load_user_settings",
    "replacements",
    "run_from_dict",
]

Config = TypeVar("Config", bound=BaseModel)


def load_run(files: Sequence[str], overrides: Sequence[str] = ()) -> RunConfig:
    """Merge YAML files left to right, then `key.path=value` overrides, and check the result.

    Relative paths start from the folder of their file, in overrides from the working folder.

    Raises:
        UserError: with all mistakes, each with its file and line.
    """
    documents = _read_all(files, overrides)
    if not documents:
        raise UserError("run", "no configuration is named", accepted="name one or more YAML files")
    raise_all(list(checks.named_twice(documents[: len(files)])))
    return _checked(*_check_run(yaml_source.merge(documents)))


def run_from_dict(values: Mapping[str, Any]) -> RunConfig:
    """Return the run that `RunConfig.to_dict` wrote; neither files nor names are looked up.

    Raises:
        UserError: the values are not those of a run.
    """
    return _from_dict(values, RunConfig, "stored run")


def ablation_from_dict(values: Mapping[str, Any]) -> AblationConfig:
    """Return the ablation that `AblationConfig.to_dict` wrote; neither files nor names are looked up.

    Raises:
        UserError: the values are not those of an ablation.
    """
    return _from_dict(values, AblationConfig, "stored ablation")


def is_ablation(file: str) -> bool:
    """Return whether a YAML file is an ablation (it has `arms`) and not a run."""
    document = yaml_source.read(file)
    return isinstance(document.value, dict) and "arms" in document.value


def load_ablation(file: str, overrides: Sequence[str] = ()) -> AblationConfig:
    """Read an ablation file and the run files of its cells, and check every cell with every arm.

    Raises:
        UserError: with all mistakes, each with its file and line.
    """
    document, *parts = _read_all([file], overrides)
    document, *parts = (arms.expanded(part) for part in (arms.at_scale(document, parts), *parts))
    for part in parts:
        document = arms.overridden(document, part)
    stated, errors = _validate(document, AblationFile)
    errors += [*arms.own_errors(document), *search_errors(document)]
    cells: dict[str, RunConfig] = {}
    for name in arms.names(document, "cells"):
        try:
            base = _read_cell(document, name)
        except UserError as error:
            errors += getattr(error, "errors", [error])
            continue
        if base is None:  # the schema has reported why
            continue
        run, found = _check_run(base)
        cells |= {name: run} if run else {}
        if not found:  # an arm inherits every mistake of its cell: report those once
            for arm in arms.names(document, "arms"):
                found += _check_run(arms.merged_with_arm(base, document, arm))[1]
        errors += found
    if len(cells) == len(arms.names(document, "cells")):
        errors += arms.unknown_metrics(document, [run.task for run in cells.values()])
    values = _checked(stated, errors).model_dump(mode="json", exclude=arms.ONLY_IN_FILES)
    return AblationConfig.model_validate(
        values | {"cells": {name: run.to_dict() for name, run in cells.items()}}
    )


def load_user_settings() -> UserSettings:
    """Return the user's settings; those of no file where there is none. A relative path starts at the file.

    Raises:
        UserError: with all mistakes, each with its line.
    """
    file = settings_file()
    if not file.exists():
        return UserSettings()
    document = _mapping(yaml_source.read(file))
    raise_all([_no_setting(document, key) for key in document.value if key not in UserSettings.model_fields])
    settings = _checked(*_validate(document, UserSettings))
    if settings.mirror is None:
        return settings
    return UserSettings(mirror=str(file.parent / Path(settings.mirror).expanduser()))


def _no_setting(document: Document, key: str) -> UserError:
    hint = perhaps(key, UserSettings.model_fields, "known keys")
    fix = f"{hint}; a setting of a run stands in the file of the run"
    return UserError(document.place((key,)).where, f"unknown key {key!r}", accepted=fix)


def replacements(file: str, overrides: Sequence[str]) -> list[str]:
    """Return a line for each override that replaces all arms (cells, ...) of an ablation file."""
    document = yaml_source.read(file)
    lines = []
    for text in overrides:
        name = arms.replaced_by(yaml_source.override(text))
        before = arms.names(document, name) if name else []
        if before:
            fix = f"{name}.NAME=... changes one"
            lines.append(f"{name}={{...}} replaces the {name} of {file} ({', '.join(before)}); {fix}")
    return lines


def _read_cell(document: Document, name: str) -> Document | None:
    """The run of a cell: its files and settings, then `set`; None where it has none."""
    errors: list[UserError] = []
    documents: list[Document] = []
    files: list[Document] = []
    for part in arms.items(document, ("cells", name)):
        place = part.place()
        try:
            if isinstance(part.value, dict):
                documents.append(_mapping(part))
            elif isinstance(part.value, str):
                files.append(_mapping(yaml_source.read(arms.cell_file(place, part.value))))
                documents.append(files[-1])
        except UserError as error:
            errors += getattr(error, "errors", [error])
    raise_all([*errors, *checks.named_twice(files)])
    if not documents:
        return None
    documents += [document.part(("set",))] if isinstance(document.get(("set",)), dict) else []
    base = yaml_source.merge(documents)
    raise_all(arms.misplaced_in_cell(base))
    return base


# ---- one run


def _read_all(files: Sequence[str], overrides: Sequence[str]) -> list[Document]:
    documents: list[Document] = []
    errors: list[UserError] = []
    for read, sources in ((yaml_source.read, files), (yaml_source.override, overrides)):
        for source in sources:
            try:
                documents.append(_mapping(read(source)))
            except UserError as error:
                errors += getattr(error, "errors", [error])
    raise_all(errors)
    return documents


def _mapping(document: Document) -> Document:
    if not isinstance(document.value, dict):
        came = "a list" if isinstance(document.value, list) else repr(document.value)
        place = document.place()
        raise UserError(place.where, "the file must hold `key: value` settings at its top level", came)
    return checks.expanded(document)


def _validate(document: Document, model: type[Config]) -> tuple[Config | None, list[UserError]]:
    try:
        return model.model_validate(document.value), []
    except ValidationError as error:
        return None, user_errors(error, document, model)


def _check_run(document: Document) -> tuple[RunConfig | None, list[UserError]]:
    document, errors = checks.resolve_paths(document)
    run, found = _validate(document, RunConfig)
    errors += [
        *found,
        *checks.exclusive_settings(document),
        *wrong_sizes(document),
        *wrong_entries(document),
        *unknown_names(document),
    ]
    return run, errors


def _checked(config: Config | None, errors: Sequence[UserError]) -> Config:
    """Return a configuration without mistakes; raise all mistakes otherwise."""
    raise_all(_in_order(errors))
    assert config is not None, "the schema refused it without an error"
    return config


def _in_order(errors: Sequence[UserError]) -> list[UserError]:
    """Each mistake once, file by file, line by line."""
    once = list({error.sentence(): error for error in errors}.values())
    files = [error.where.rpartition(":")[0] for error in once]

    def place(error: UserError) -> tuple[int, int]:
        file, _, line = error.where.rpartition(":")
        return files.index(file), int(line) if line.isdigit() else 0

    return sorted(once, key=place)


def _from_dict(values: Mapping[str, Any], model: type[Config], name: str) -> Config:
    document = checks.expanded(Document(dict(values), {(): Place(name, None, Path.cwd())}))
    return _checked(*_validate(document, model))
