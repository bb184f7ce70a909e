"""The folder of this machine in which runs whose folders are at a storage URL are made: below TMPDIR."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from pipelines.errors import UserError


def scratch_of(url: str) -> Path:
    """Return this user's folder for a storage URL, and make it; no one else may read or write it.

    Raises:
        UserError: something else has its name, such as the folder of another user.
    """
    root = Path(tempfile.gettempdir()) / f"attnlab-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if root.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise UserError(str(root), "is not this user's own folder", accepted="set TMPDIR to another folder")
    folder = root / hashlib.sha256(url.encode()).hexdigest()[:12]
    folder.mkdir(exist_ok=True)
    return folder
