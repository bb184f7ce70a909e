"""From YAML files and overrides to one checked, frozen configuration of a run or an ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.config import ablation_file as arms
from pipelines.config import checks, yaml_source
from pipelines.config.ablation import AblationConfig, AblationFile, ArmConfig
from pipelines.config.names import unknown_names
from pipelines.config.run import (
    RUN_EXECUTION_KEYS,
    DataConfig,
    GeneratedSpec,
    ModelConfig,
    RunConfig,
    TaskSpec,
    VariantSpec,
    WhereConfig,
)
from pipelines.config.schema_errors import user_errors
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
    "run_from_dict",
]


def load_run(files: Sequence[str], overrides: Sequence[str] = ()) -> RunConfig:
    """Merge YAML files left to right, then `key.path=value` overrides, and check the result.

    Relative paths start from the file they stand in, in overrides from the working folder.

    Raises:
        UserError: with every mistake found, each with its file and line.
    """
    documents = _read_all(files, overrides)
    if not documents:
        raise UserError("run", "no configuration is named", accepted="name one or more YAML files")
    run, errors = _check_run(yaml_source.merge(documents))
    raise_all(_in_order(errors))
    return run


def run_from_dict(values: Mapping[str, Any]) -> RunConfig:
    """The run that `RunConfig.to_dict` wrote; neither files nor names are looked up.

    Raises:
        UserError: the values are not those of a run.
    """
    return _from_dict(values, RunConfig, "stored run")


def ablation_from_dict(values: Mapping[str, Any]) -> AblationConfig:
    """The ablation that `AblationConfig.to_dict` wrote; neither files nor names are looked up."""
    return _from_dict(values, AblationConfig, "stored ablation")


def is_ablation(file: str) -> bool:
    """Whether a YAML file states an ablation (it has `arms`) and not a run."""
    document = yaml_source.read(file)
    return isinstance(document.value, dict) and "arms" in document.value


def load_ablation(file: str, overrides: Sequence[str] = ()) -> AblationConfig:
    """Read an ablation file and the run files of its cells, and check every cell with every arm.

    Raises:
        UserError: with every mistake found, each with its file and line.
    """
    parts = [arms.written_out(part) for part in _read_all([file], overrides)]
    document = yaml_source.merge(parts)
    stated, errors = _validate(document, AblationFile)
    errors += arms.own_errors(document)
    cells: dict[str, RunConfig] = {}
    for name in arms.names(document, "cells"):
        try:
            base = _read_cell(document, name)
        except UserError as error:
            errors += getattr(error, "errors", [error])
            continue
        if base is None:  # the schema has said why
            continue
        run, found = _check_run(base)
        cells |= {name: run} if run else {}
        if not found:  # an arm inherits every mistake of its cell: say those once
            for arm in arms.names(document, "arms"):
                found += _check_run(arms.overlaid(base, document, arm))[1]
        errors += found
    if len(cells) == len(arms.names(document, "cells")):
        errors += arms.unknown_metrics(document, [run.task for run in cells.values()])
    raise_all(_in_order(errors))
    values = stated.model_dump(mode="json", exclude={"cells", "set"})
    return AblationConfig.model_validate(
        values | {"cells": {name: run.to_dict() for name, run in cells.items()}}
    )


def _read_cell(document: Document, name: str) -> Document | None:
    """The run that a cell states: its files and in-place settings, then `set`; None where it states none."""
    errors: list[UserError] = []
    documents: list[Document] = []
    for part in arms.items(document, ("cells", name)):
        place = part.place()
        try:
            if isinstance(part.value, dict):
                documents.append(_mapping(part))
            elif isinstance(part.value, str):
                documents.append(_mapping(yaml_source.read(arms.cell_file(place, part.value))))
        except UserError as error:
            errors += getattr(error, "errors", [error])
    raise_all(errors)
    if not documents:
        return None
    documents += [document.part(("set",))] if isinstance(document.get(("set",)), dict) else []
    base = yaml_source.merge(documents)
    raise_all(arms.no_setting_of_a_cell(base))
    return base


# ---- one run


def _read_all(files: Sequence[str], overrides: Sequence[str]) -> list[Document]:
    documents, errors = [], []
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
    return checks.written_out(document)


def _validate(document: Document, model) -> tuple[Any, list[UserError]]:
    try:
        return model.model_validate(document.value), []
    except ValidationError as error:
        return None, user_errors(error, document, model)


def _check_run(document: Document) -> tuple[RunConfig | None, list[UserError]]:
    document, errors = checks.resolve_paths(document)
    run, found = _validate(document, RunConfig)
    errors += [*found, *checks.exclusive_settings(document), *unknown_names(document)]
    return run, errors


def _in_order(errors: Sequence[UserError]) -> list[UserError]:
    """Each mistake once, file by file, line by line."""
    once = list({error.sentence(): error for error in errors}.values())
    files = [error.where.rpartition(":")[0] for error in once]

    def place(error: UserError) -> tuple[int, int]:
        file, _, line = error.where.rpartition(":")
        return files.index(file), int(line) if line.isdigit() else 0

    return sorted(once, key=place)


def _from_dict(values: Mapping[str, Any], model, name: str):
    document = checks.written_out(Document(dict(values), {(): Place(name, None, Path.cwd())}))
    config, errors = _validate(document, model)
    raise_all(errors)
    return config
