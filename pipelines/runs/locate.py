"""Find the folder of a run, local or on the Hub."""

from __future__ import annotations

from pathlib import Path

from pipelines.errors import UserError
from pipelines.hub import address
from pipelines.hub.fetch import ABLATION, RUN, fetch, fetch_model
from pipelines.storage.names import TOGETHER
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
    return found


def find_run_folder(text: str | Path) -> RunFolder:
    """Return a finished run with its model: a run folder, or a run at "hub:ORG/NAME".

    Raises:
        UserError: as `fetch`, or the address is that of an ablation.
    """
    if not address.is_address(str(text)):
        return RunFolder(Path(text))
    folder = fetch_model(str(text)).folder
    return RunFolder(folder / RUN, model=folder)
