"""Where the runs of an executor that starts them elsewhere find the ablation: on a volume, or at a URL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipelines.ablation.cell import address_of
from pipelines.errors import UserError


def address_for(
    name: str, ablation: Path, mount: str, needed: Mapping[str, str | None], store: str | None
) -> str:
    """Return the folder of an ablation, which a volume has here and there, or its storage URL.

    Args:
        name: of the executor; its settings are a section of the ablation file under this name.
        mount: where the volume is, in the runs and on this machine.
        needed: settings, of which None is no value.
        store: storage URL of the run folders; then nothing needs to be mounted.

    Raises:
        UserError: a needed setting is missing, or the ablation is not in `mount`.
    """
    section, folder = name.replace("-", "_"), ablation.absolute()
    for setting, value in needed.items():
        if value is None:
            raise UserError(f"{section}.{setting}", "is not stated", accepted=f"{name} needs it")
    if store is None and not folder.is_relative_to(mount):
        what = "the ablation's folder is not on the volume that the runs mount"
        accepted = f"--out in {mount}, or {section}.mount, or a store"
        raise UserError(f"{section}.mount", what, str(folder), accepted)
    return address_of(folder, store)
