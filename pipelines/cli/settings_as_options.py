"""Tell who writes a setting as an option of the command line (`--seed 3`) how it is written: `seed=3`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from pipelines.errors import UserError


def wrong_options(argv: Sequence[str], unknown: Sequence[str], settings: Sequence[str]) -> list[UserError]:
    """Return an error for each unknown option that is a setting, here or in transformers.

    Args:
        argv: the whole command line.
        unknown: its options that the command does not have.
        settings: its files and overrides.
    """
    of_ablation = any(_is_ablation(file) for file in settings)
    errors = []
    for option in unknown:
        name, equals, value = option.lstrip("-").partition("=")
        value = value if equals else _value_after(option, argv)
        accepted = _instead(name.replace("-", "_"), value, of_ablation)
        if accepted is not None:
            what = "is a setting, and settings have no dashes"
            errors.append(UserError(option.partition("=")[0], what, accepted=accepted))
    return errors


def _is_ablation(file: str) -> bool:
    from pipelines.config.load import is_ablation

    try:
        return os.path.isfile(file) and is_ablation(file)
    except UserError:  # reported where the file is read
        return False


def _value_after(option: str, argv: Sequence[str]) -> str:
    """Return the word after an option; without a value it is a switch."""
    place = list(argv).index(option) + 1
    after = argv[place] if place < len(argv) else ""
    is_other = not after or after.startswith("--") or "=" in after or after.endswith((".yaml", ".yml"))
    return "true" if is_other else after


def _instead(name: str, value: str, of_ablation: bool) -> str | None:
    """Return what to write instead; None where no setting has this name."""
    from pipelines.config import known_names, yaml_source
    from pipelines.config.ablation import AblationFile
    from pipelines.config.run import RunConfig
    from pipelines.config.schema_tree import is_setting

    path = tuple(name.split("."))
    model = AblationFile if of_ablation else RunConfig
    if of_ablation and name in ("seed", "attention"):  # a run has one, an ablation several
        return "write 'seeds=[1, 2, 3]'" if name == "seed" else "write 'arms.NAME=[VARIANT]'"
    if is_setting(model, path):
        return f"write {shlex.quote(f'{name}={value}')}"
    if is_setting(RunConfig, path):
        return f"write {shlex.quote(f'set.{name}={value}')}"
    try:
        document = yaml_source.override(f"{name}={value}")
    except UserError:  # a value that is no YAML
        return None
    return known_names.answer(document, path, "set" if of_ablation else None)
