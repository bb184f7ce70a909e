"""Find the folder of a run, local or on the Hub."""

from __future__ import annotations

from pathlib import Path

from pipelines.errors import UserError
from pipelines.hub import address
from pipelines.hub.fetch import ABLATION, RUN, fetch, fetch_model
from pipelines.storage.names import TOGETHER
from pipelines.storage.run_folder import RunFolder


def record(text: str) -> Path:
    """The record of a run or an ablation: the folder itself, or what was pushed at an address.

    Raises:
        UserError: as `fetch`, or what stands there holds no record, or one of folders elsewhere.
    """
    if not address.is_address(text):
        return Path(text)
    folder = fetch(text).folder
    found = next((folder / name for name in (ABLATION, RUN) if (folder / name).is_dir()), None)
    if found is None or (found / TOGETHER).exists():
        what = "holds no record" if found is None else f"has a {TOGETHER}, which names folders outside of it"
        raise UserError(text, what, accepted="attnlab pushes no such thing")
    return found


def run_folder(text: str | Path) -> RunFolder:
    """A finished run with its model: a run folder, or one that was pushed.

    Raises:
        UserError: an ablation stands at the address.
    """
    if not address.is_address(str(text)):
        return RunFolder(Path(text))
    folder = fetch_model(str(text)).folder
    return RunFolder(folder / RUN, model=folder)
