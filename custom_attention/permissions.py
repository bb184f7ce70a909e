"""Permissions of written weights: those of any new file of the user."""

from __future__ import annotations

import os
from pathlib import Path


def follow_umask(folder: Path) -> None:
    """Give the weights in a folder the permissions of any new file; safetensors writes for the owner only."""
    mask = os.umask(0o077)
    os.umask(mask)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o666 & ~mask)
