"""What an executor needs whose runs see the ablation on a volume that is mounted there and here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipelines.errors import UserError


def require_mounted(name: str, ablation: Path, mount: str, needed: Mapping[str, str | None]) -> Path:
    """Return the folder in which the runs see the ablation; it is the one of this machine.

    Args:
        name: of the executor; its settings are a section of the ablation file under this name.
        mount: where the volume is, in the runs and on this machine.
        needed: settings, of which None is no value.

    Raises:
        UserError: a needed setting is missing, or the ablation is not in `mount`.
    """
    section, folder = name.replace("-", "_"), ablation.absolute()
    for setting, value in needed.items():
        if value is None:
            raise UserError(f"{section}.{setting}", "is not stated", accepted=f"{name} needs it")
    if not folder.is_relative_to(mount):
        what = "the ablation's folder is not on the volume that the runs mount"
        raise UserError(f"{section}.mount", what, str(folder), f"--out in {mount}, or {section}.mount")
    return folder
