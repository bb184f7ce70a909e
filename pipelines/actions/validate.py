"""`attnlab validate`: check configuration files and describe what they would run."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.config.describe import describe_ablation, describe_run
from pipelines.config.load import is_ablation, load_ablation, load_run, replacements
from pipelines.errors import UserError, raise_all
from pipelines.shown import printable


def validate_command(files: Sequence[str], overrides: Sequence[str]) -> None:
    """Check files and print what they would run: each ablation by itself, the run files merged.

    Raises:
        UserError: with every error found in any of them.
    """
    errors: list[UserError] = []
    is_of_ablation: dict[str, bool] = {}
    for file in files:
        try:
            is_of_ablation[file] = is_ablation(file)
        except UserError as error:
            errors += getattr(error, "errors", [error])
    raise_all(errors)
    groups = [[file] for file in files if is_of_ablation[file]]
    run_files = [file for file in files if not is_of_ablation[file]]
    if run_files or not groups:
        groups.append(run_files)
    blocks: list[str] = []
    for group in groups:
        try:
            if group is run_files:
                lines = list(describe_run(load_run(group, overrides)))
            else:
                ablation = load_ablation(group[0], overrides)
                lines = [*replacements(group[0], overrides), *describe_ablation(ablation)]
            blocks.append("\n  ".join([f"{' + '.join(group)}: valid", *lines]))
        except UserError as error:
            errors += getattr(error, "errors", [error])
    raise_all(errors)
    print(printable("\n".join(blocks)))
