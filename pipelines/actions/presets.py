"""The configurations that attnlab comes with: `attnlab ls configs`, `attnlab init --from NAME`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pipelines.actions.init_lines import in_yaml
from pipelines.config import yaml_source
from pipelines.config.suggestions import perhaps
from pipelines.errors import UserError
from pipelines.registry.source import HOME

PRESETS = HOME / "attnlab" / "configs"  # in a checkout a link to configs/, in a wheel a folder


def preset_command(name: str) -> None:
    """Print a configuration under its comments, complete: files that it names are merged into it.

    Raises:
        UserError: there is no such configuration.
    """
    print(preset(name), end="")


def preset(name: str) -> str:
    """Return the text of a configuration; the cells of an ablation hold their settings instead of files.

    Args:
        name: as `attnlab ls configs` prints it, with or without configs/ and .yaml; without its folder where
            only one folder has it.

    Raises:
        UserError: there is no such configuration, or several.
    """
    file = _find(name)
    text = file.read_text(encoding="utf-8")
    value = yaml_source.read(file).value
    cells = value.get("cells") if isinstance(value, dict) else None
    if not isinstance(cells, dict) or not any(map(_names_files, cells.values())):
        return text
    lines = text.splitlines(keepends=True)
    begin = next(place for place, line in enumerate(lines) if line.startswith("cells:"))
    after = (place for place, line in enumerate(lines) if place > begin and re.match(r"[^\s#]", line))
    end = next(after, len(lines))
    return "".join([*lines[: begin + 1], *_cells(cells, file), *lines[end:]])


def _names_files(cell: object) -> bool:
    return isinstance(cell, str) or (isinstance(cell, list) and any(isinstance(part, str) for part in cell))


def _cells(cells: dict[str, object], file: Path) -> Iterator[str]:
    """Yield the lines of the cells with the settings of their files."""
    for name, cell in cells.items():
        values: object = {}
        for part in cell if isinstance(cell, list) else [cell]:
            if isinstance(part, str):
                part = yaml_source.read(os.path.normpath(file.parent / part)).value
            values = yaml_source.merge_values(values, part)
        assert isinstance(values, dict)
        yield f"  {name}:\n"
        yield from (f"    {in_yaml(key)}: {in_yaml(value)}\n" for key, value in values.items())


def names() -> dict[str, Path]:
    """Return the file of each configuration, by its name below configs/, such as task/ner-generated."""
    files = sorted(PRESETS.rglob("*.yaml"))
    return {file.relative_to(PRESETS).with_suffix("").as_posix(): file for file in files}


def _find(name: str) -> Path:
    known = names()
    wanted = name.removeprefix("configs/").removesuffix(".yaml")
    found = [full for full in known if wanted in (full, full.rpartition("/")[2])]
    if wanted in known:
        return known[wanted]
    if len(found) != 1:
        what = "several configs have this name" if found else "there is no such config"
        fix = (
            f"one of {', '.join(found)}"
            if found
            else perhaps(wanted, known, "configs", "see attnlab ls configs")
        )
        raise UserError("--from", what, name, fix)
    return known[found[0]]
