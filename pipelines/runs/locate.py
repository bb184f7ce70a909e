"""Find the folder of a run, local or on the Hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.hub import address
from pipelines.hub.fetch import ABLATION, RUN, fetch, fetch_model
from pipelines.registry.installed import require_installed
from pipelines.runs.identity import BY_CONTENT
from pipelines.storage import reading
from pipelines.storage.names import CELLS, MANIFEST, TOGETHER
from pipelines.storage.paths import inside
from pipelines.storage.run_folder import RunFolder


def find_record(text: str) -> Path:
    """Return the folder of a run or an ablation; for a "hub:ORG/NAME", the one that was downloaded.

    Raises:
        UserError: as `fetch`, or the download holds no record, or a record that names folders outside of it.
    """
    if not address.is_address(text):
        return Path(text)
    folder = fetch(text).folder
    found = next((folder / name for name in (ABLATION, RUN) if (folder / name).is_dir()), None)
    if found is None or (found / TOGETHER).exists():
        what = "holds no record" if found is None else f"has a {TOGETHER}, which names folders outside of it"
        raise UserError(text, what, accepted="attnlab pushes no such thing")
    for manifest in (found / MANIFEST, *sorted((folder / CELLS).glob(f"*/{MANIFEST}"))):
        if manifest.exists():
            require_harmless(RunFolder(manifest.parent, model=folder), text)
    return found


def find_run_folder(text: str | Path) -> RunFolder:
    """Return a finished run with its model: a run folder, or a run at "hub:ORG/NAME".

    Raises:
        UserError: as `fetch`, or the address is that of an ablation.
    """
    if not address.is_address(str(text)):
        return RunFolder(Path(text))
    folder = fetch_model(str(text)).folder
    run = RunFolder(folder / RUN, model=folder)
    require_harmless(run, str(text))
    return run


def require_harmless(run: RunFolder, where: str) -> None:
    """Refuse a downloaded run that names files or code of this machine.

    Args:
        where: its address.

    Raises:
        UserError: a name in its settings leads out of the working folder, or code would come from there.
    """
    settings = (run.manifest() or {}).get("config", {})
    names = (settings.get(section, {}).get(key) for section, key in BY_CONTENT)
    for name in filter(None, names):
        inside(Path.cwd(), reading.checked(str, name, where, "do not use it"), where)
    require_installed(_variants(settings.get("attention", ())), where)
    config = reading.json_object_if_there(run.model / "config.json", "download it again") or {}
    carried = reading.checked(dict[str, Any], config.get("attnlab") or {}, where, "do not use it")
    require_installed(_variants(carried.get("variants", ())), where)


def _variants(attention: Iterable[Any]) -> Iterator[str]:
    """Yield the names of variants: settings list a name or {name: options}, a model [name, options]."""
    for one in attention:
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            yield from (str(value) for value in (one.get("variant"), *one) if value is not None)
        elif isinstance(one, list) and one:
            yield str(one[0])
