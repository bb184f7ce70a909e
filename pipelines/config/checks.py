"""Checks of a run that a schema cannot express: settings that exclude each other, files that must exist."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from pipelines.config.dropout import is_dropout
from pipelines.config.run import RunConfig
from pipelines.config.schema_tree import dotted
from pipelines.config.yaml_source import Document, KeyPath
from pipelines.errors import UserError
from pipelines.storage.paths import split_part

FILE_KEYS: tuple[KeyPath, ...] = (("data", "train"), ("data", "validation"), ("data", "test"))
FOLDER_KEYS: tuple[KeyPath, ...] = (("model", "name"), ("model", "tokenizer"))

# The optimizers that use a setting.
USED_BY = {
    "momentum": ("sgd", "muon"),
    "adam_beta1": ("adamw", "muon"),
    "adam_beta2": ("adamw", "muon"),
    "adam_epsilon": ("adamw", "muon"),
}
# The keys that name the source of a section.
NAMING = {
    "task": ("name",),
    "data": ("name", "train", "generated"),
    "model": ("name", "architecture"),
}


def expanded(document: Document) -> Document:
    """Return the document with its short forms expanded: `task: ner`, `attention: gate`."""
    if isinstance(document.get(("task",)), str):
        document = document.replaced(("task",), document.part(("task",)).under("name"))
    if isinstance(document.get(("attention",)), str | dict):
        document = document.replaced(("attention",), document.part(("attention",)).under(0))
    return document


def named_twice(files: Sequence[Document]) -> Iterator[UserError]:
    """Yield an error for each file that names another task, other data or another model than one before it.

    Merged, they would be a mixture: one task with options and columns of both.
    """
    first: dict[str, tuple[Document, list[object]]] = {}
    for file in files:
        for section, named in (("task", _task_and_data(file)), ("model", _named(file, "model"))):
            if not named:
                continue
            before, other = first.setdefault(section, (file, named))
            both = min(len(named), len(other))  # of a task without data, the name alone
            if other[:both] != named[:both]:
                what = f"names a {section}, and {before.place((section,)).name} already names one"
                fix = f"use one file with a {section}, or change single settings by {section}.KEY=value"
                yield UserError(file.place((section,)).where, what, accepted=fix)


def _task_and_data(file: Document) -> list[object]:
    task = _named(file, "task")
    return [*task, *_named(file, "data")] if task else []


def _named(file: Document, section: str) -> list[object]:
    """Return what a file gives for the keys that name a section's source."""
    values = [file.get((section, key)) for key in NAMING[section]]
    return values if any(value is not None for value in values) else []


def resolve_paths(document: Document) -> tuple[Document, list[UserError]]:
    """Make relative paths absolute, each from the folder of its own file; report what does not exist."""
    errors: list[UserError] = []
    from_hub = document.get(("data", "name")) is not None
    for path in (() if from_hub else _file_keys(document)) + FOLDER_KEYS:
        text = document.get(path)
        if not isinstance(text, str) or not text:
            continue
        place = document.place(path)
        is_folder = path in FOLDER_KEYS
        text, part = (text, "") if is_folder else split_part(text)
        found = place.folder / os.path.expanduser(text)
        if (
            os.path.isdir(found) if is_folder else os.path.exists(found)
        ):  # False too for a name that is too long
            resolved = Document(f"{found.resolve()}{part}", {(): place})
            document = document.replaced(path, resolved)
        elif not is_folder or text.startswith((".", "/", "~")):
            kind = "folder" if is_folder else "file"
            errors.append(
                UserError(place.where, f"{dotted(path)}: there is no {kind} {text}", os.path.realpath(found))
            )
    return document, errors


def _file_keys(document: Document) -> tuple[KeyPath, ...]:
    """Return where files are named: `data.train`, or `data.train.source` ... if each column has one."""
    named = {path: document.get(path) for path in FILE_KEYS}
    return tuple(
        below
        for path, files in named.items()
        for below in ([(*path, column) for column in files] if isinstance(files, dict) else [path])
    )


def exclusive_settings(document: Document) -> Iterator[UserError]:
    """Yield an error for settings that exclude each other, and for none where exactly one is required."""
    data, model = document.get(("data",)), document.get(("model",))
    if isinstance(data, dict):
        files = [key for key in ("train", "validation", "test") if data.get(key) is not None]
        given = [key for key in data if key in ("name", "generated", *files) and data[key] is not None]
        sources = [key for key in given if key not in files or (key == files[0] and "name" not in given)]
        yield from _exactly_one(document, "data", sources, ("name", "train", "generated"))
        if sources and sources[0] in files:
            yield from _missing_files(document, data)
        if data.get("split") is not None:
            yield from _split(document, data)
        yield from _parallel(document, data)
    if isinstance(model, dict):
        sources = [key for key in model if key in ("name", "architecture") and model[key] is not None]
        yield from _exactly_one(document, "model", sources, ("name", "architecture"))
    if document.get(("lora",)) is not None:
        yield from _lora(document)
    yield from _training(document)
    yield from _kernel(document)
    if document.get(("sharding",)) == "fsdp2" and document.get(("processes",)) in (None, 1):
        what = "sharding: fsdp2 shares the weights among processes, and there is only one process"
        accepted = "set processes, or leave sharding out"
        yield UserError(document.place(("sharding",)).where, what, accepted=accepted)


def _training(document: Document) -> Iterator[UserError]:
    """Yield an error for each setting of the training that another one leaves without effect."""

    def refused(key: KeyPath, what: str, fix: str) -> UserError:
        return UserError(document.place(key).where, what, accepted=fix)

    steps, most = document.get(("warmup_steps",)), document.get(("max_steps",))
    if steps is not None and document.get(("warmup_ratio",)):
        what, fix = (
            "warmup_steps and warmup_ratio exclude each other",
            "set warmup_ratio: 0, or leave one out",
        )
        yield refused(("warmup_steps",), what, fix)
    if type(steps) is int and type(most) is int and steps >= most > 0:
        what = f"a warm-up of {steps:,} steps does not end in a run of max_steps: {most:,}"
        yield refused(("warmup_steps",), what, f"at most {most - 1}")
    optimizer = document.get(("optimizer",), "adamw")
    for key, used_by in USED_BY.items():
        value = document.get((key,))
        if value is not None and value != RunConfig.model_fields[key].default and optimizer not in used_by:
            what = f"{key} is of {' and '.join(used_by)}, and optimizer {optimizer} does not use it"
            yield refused((key,), what, "leave it out")
    if document.get(("sharding",)) == "fsdp2" and optimizer in ("adafactor", "muon"):
        what = f"optimizer {optimizer} needs whole matrices, and sharding: fsdp2 splits them"
        yield refused(("optimizer",), what, "use adamw or sgd, or leave sharding out")
    if document.get(("lora",)) is not None and document.get(("freeze",)):
        what = "lora freezes every pretrained weight already"
        yield refused(("freeze",), what, "leave freeze out, or choose lora.targets")
    entries = document.get(("model", "config"))
    if document.get(("dropout",)) is not None and isinstance(entries, dict):
        for name in filter(is_dropout, entries):
            what = f"dropout and model.config.{name} set the same entry"
            yield refused(("model", "config", name), what, "leave one of them out")


def _kernel(document: Document) -> Iterator[UserError]:
    """Yield an error for settings with which another kernel cannot train."""
    kernel, where = document.get(("kernel",)), document.place(("kernel",)).where
    if kernel is not None and document.get(("device",)) == "cpu":
        what = f"{kernel} attention trains on a GPU only, and device is cpu"
        yield UserError(where, what, accepted="leave one of them out")
    if kernel == "flash" and document.get(("precision",), "float32") == "float32":
        what = "flash attention computes in 16 bits, and precision is float32"
        yield UserError(where, what, accepted="set precision: bfloat16, or choose kernel: flex")


def _lora(document: Document) -> Iterator[UserError]:
    where = document.place(("lora",)).where
    if document.get(("model", "architecture")) is not None:
        fix = "name a pretrained model by model.name, or leave lora out"
        yield UserError(
            where, "lora adapts pretrained weights, but this model starts from scratch", accepted=fix
        )
    if document.get(("sharding",)) == "fsdp2":
        yield UserError(
            where, "lora and sharding: fsdp2 exclude each other", accepted="leave one of them out"
        )


def _missing_files(document: Document, data: Mapping[str, object]) -> Iterator[UserError]:
    use = {"train": "to learn from", "validation": "that chooses the checkpoint"}
    drawn = _drawn_splits(data)
    for key in use:
        if data.get(key) is None and key not in drawn:
            where = document.place(("data",)).where
            yield UserError(where, f"data.{key} is missing", accepted=f"name the file {use[key]}")


def _drawn_splits(data: Mapping[str, object]) -> list[str]:
    """Return the splits that `data.split` draws; the schema reports values that are no shares."""
    split = data.get("split")
    if not isinstance(split, dict):
        return []
    shares = {"validation": split.get("validation", 0.1), "test": split.get("test", 0)}
    return [name for name, share in shares.items() if share]


def _split(document: Document, data: Mapping[str, object]) -> Iterator[UserError]:
    where = document.place(("data", "split")).where
    for name in _drawn_splits(data):
        if data.get(name) is not None:
            fix = f"set data.split.{name}: 0, or data.{name}: null"
            yield UserError(where, f"data.split draws {name}, and data.{name} names it", accepted=fix)
    for key, value in (("generated", None), ("streaming", False)):
        if data.get(key) not in (None, value):
            fix = "leave data.split out" if key == "generated" else "set false, or write the splits as files"
            yield UserError(where, f"data.split and data.{key} exclude each other", accepted=fix)


def _parallel(document: Document, data: Mapping[str, object]) -> Iterator[UserError]:
    keys = [key for *_, key in FILE_KEYS if isinstance(data.get(str(key)), dict)]
    excluded = {"name": data.get("name"), "format": data.get("format"), "streaming": data.get("streaming")}
    given = [name for name, value in excluded.items() if value]
    if keys and given:
        what = f"data.{given[0]} and a file for each column exclude each other"
        fix = f"leave data.{given[0]} out, or name one file as data.{keys[0]}"
        yield UserError(document.place(("data", keys[0])).where, what, accepted=fix)


def _exactly_one(
    document: Document, section: str, given: list[str], wanted: tuple[str, ...]
) -> Iterator[UserError]:
    names = [f"{section}.{key}" for key in wanted]
    one_of = f"set exactly one of {', '.join(names[:-1])} and {names[-1]}"
    if not given:
        yield UserError(document.place((section,)).where, f"{section} names no source", accepted=one_of)
    if len(given) > 1:  # in the order of the file: the last one was probably added
        where = document.place((section, given[-1])).where
        both = " and ".join(f"{section}.{key}" for key in given)
        yield UserError(where, f"{both} exclude each other", accepted=f"{one_of}; null unsets a key")
