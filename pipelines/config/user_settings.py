"""The settings of a user for all runs on a machine: `attnlab/settings.yaml` below ~/.config."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from pipelines.config.run import Name, Section


class UserSettings(Section):
    """What a user has set for this machine; nothing in it changes what a run is."""

    mirror: Name | None = Field(None, description="a folder that is looked at before the Hub")


def settings_file() -> Path:
    """Return where the settings are looked for: below XDG_CONFIG_HOME, or below ~/.config without it."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".config") / "attnlab" / "settings.yaml"
