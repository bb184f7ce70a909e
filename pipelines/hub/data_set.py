"""Open a data set of the Hub: in the mirror, else on the Hub itself; or a folder with the same layout."""

from __future__ import annotations

from typing import Any

from pipelines.errors import UserError
from pipelines.hub import mirror
from pipelines.hub.messages import DataPart

CONVERTED = "refs/convert/parquet"  # branch of data sets with a loading script


def open_data_set(name: str, part: DataPart, revision: str | None) -> Any:
    """Return the builder of `datasets` for a part of a data set.

    Args:
        revision: branch, tag or commit.

    Raises:
        UserError: the mirror holds it and cannot be used; or as `files_of`.
    """
    mirrored = mirror.find_at("datasets", name, revision)
    if mirrored is not None:
        builder = _builder(str(mirrored.folder), part, None)
        files_of(builder, f"{mirrored.folder.resolve()}/", name, part)
        return builder
    builder = _builder(name, part, revision)
    if mirror.is_repository(name):
        files_of(builder, f"hf://datasets/{name}@", name, part)
    return builder


def files_on_the_hub(name: str, part: DataPart, commit: str) -> list[str]:
    """Return the files of a part of a data set on the Hub.

    Raises:
        UserError: as `files_of`.
    """
    try:
        builder = _builder(name, part, commit)
    except (ValueError, RuntimeError) as error:
        raise UserError(name, f"cannot be read: {one_line(error)}", accepted=advice(error)) from error
    return files_of(builder, f"hf://datasets/{name}@{commit}/", name, part)


def one_line(error: Exception) -> str:
    """Return the message of an error of `datasets` as a clause."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__


def advice(error: Exception) -> str | None:
    """Return what to do about an error of `datasets`, where it is known."""
    if "BuilderConfig" in str(error):
        return "if the data set has a folder of that name, write data.folder instead of data.config"
    if "scripts are no longer supported" in str(error):
        return (
            f"set data.revision: {CONVERTED}, where the Hub keeps what it converted; "
            "data.folder names one of several configurations there"
        )
    return None


def _builder(source: str, part: DataPart, revision: str | None) -> Any:
    from datasets import load_dataset_builder

    return load_dataset_builder(source, part["config"], revision=revision, data_dir=part["folder"])


def files_of(builder: Any, home: str, name: str, part: DataPart) -> list[str]:
    """Return the files that a builder reads, each without `home`.

    Raises:
        UserError: one is not below `home`, or several configurations would be mixed.
    """
    files = [str(file) for split in (builder.config.data_files or {}).values() for file in split]
    for file in files:
        if not file.startswith(home) or ".." in file.split("/"):
            fix = "do not use it: a data set names its own files only"
            raise UserError(name, "its card names a file outside of the data set", file, fix)
    inside = [file.removeprefix(home) for file in files]
    if home.endswith("@"):  # the commit follows
        inside = [file.partition("/")[2] for file in inside]
    if part["folder"] is None and part["config"] is None:
        _require_one_folder([file.split("/") for file in inside])
    return inside


def _require_one_folder(files: list[list[str]]) -> None:
    """Refuse FOLDER/SPLIT/... with several folders that have a split in common: `datasets` would mix them."""
    folders = sorted({file[0] for file in files})
    splits = [{file[1] for file in files if file[0] == folder and file[2:]} for folder in folders]
    if len(folders) > 1 and set.intersection(*splits) & {"train", "validation", "test"}:
        what = "the data set has several configurations, and its card lists none, so that they would be mixed"
        raise UserError("data.folder", what, accepted=f"name one of {', '.join(folders)}")
