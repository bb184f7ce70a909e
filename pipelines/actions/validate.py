"""`attnlab validate`: check configuration files and describe what they would run."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.config.describe import describe_ablation, describe_run
from pipelines.config.load import is_ablation, load_ablation, load_run
from pipelines.errors import UserError, raise_all


def summary(files: Sequence[str], overrides: Sequence[str]) -> str:
    """Check files and describe them: each ablation on its own, the run files merged.

    Raises:
        UserError: with every mistake in any of them.
    """
    errors: list[UserError] = []
    kinds: dict[str, bool] = {}
    for file in files:
        try:
            kinds[file] = is_ablation(file)
        except UserError as error:
            errors += getattr(error, "errors", [error])
    raise_all(errors)
    ablations, runs = [file for file in files if kinds[file]], [file for file in files if not kinds[file]]
    blocks: list[str] = []
    for parts, describe, load in (
        *(
            ([file], describe_ablation, lambda parts: load_ablation(parts[0], overrides))
            for file in ablations
        ),
        *([(runs, describe_run, lambda parts: load_run(parts, overrides))] if runs or not ablations else []),
    ):
        try:
            lines = [f"{' + '.join(parts)}: in order", *describe(load(parts))]
            blocks.append("\n  ".join(lines))
        except UserError as error:
            errors += getattr(error, "errors", [error])
    raise_all(errors)
    return "\n".join(blocks)
