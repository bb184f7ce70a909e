"""Train, ablate, load, report and compare from Python, as the command `attnlab` does.

    import attnlab

    manifest = attnlab.train("my.yaml", out="runs/first")
    run = attnlab.load_run("runs/first")
    results = attnlab.ablate("ablation.yaml", out="runs/mine")
    results = attnlab.report("runs/mine")
    results = attnlab.compare("base.txt", "new.txt", task="ner", references="test.conll", out="runs/both")

A run is configured by a YAML file, a list of files (merged left to right) or a mapping of settings; an
ablation by its file. Errors are those of the command: `UserError`, `RunFailed` and `Interrupted`. Importing
this module loads no torch.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.errors import Interrupted, RunFailed, UserError
    from pipelines.runs.load import LoadedRun

__all__ = ["Interrupted", "RunFailed", "UserError", "ablate", "compare", "load_run", "report", "train"]

Path = str | os.PathLike[str]
Config = Path | Sequence[Path] | Mapping[str, Any]


def __getattr__(name: str) -> Any:
    """Return one of the errors; the command imports this module before it has found its packages."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipelines import errors

    return getattr(errors, name)


def train(config: Config, out: Path) -> dict[str, Any]:
    """Train one run into the folder `out` and return its manifest; a finished run is not trained again.

    Args:
        config: files, or a mapping of settings, of a run.

    Raises:
        UserError: the configuration is wrong, or it asks for several processes.
        RunFailed: the run could not continue.
        Interrupted: it was asked to stop; the same call resumes it.
    """
    from pipelines.config.load import load_run as read
    from pipelines.errors import UserError

    if isinstance(config, Mapping):  # checked like `key=value` on the command line
        settings = read([], [f"{key}={json.dumps(value)}" for key, value in config.items()])
    else:
        files = [config] if isinstance(config, str | os.PathLike) else config
        settings = read([os.fspath(file) for file in files])
    if settings.processes > 1:
        fix = "set processes: 1, or use the command attnlab train"
        raise UserError("processes", "from Python a run has one process", settings.processes, fix)
    import pipelines.runs.preload  # noqa: F401
    from pipelines.actions import train as action
    from pipelines.storage.run_folder import RunFolder

    action.train(settings, os.fspath(out))
    return dict(RunFolder(pathlib.Path(out)).manifest() or {})


def ablate(config: Path, out: Path) -> dict[str, Any]:
    """Run what is missing of an ablation, write its report into `out`, and return its results.

    Args:
        config: the file of an ablation.

    Raises:
        UserError: the configuration is wrong.
        RunFailed: a run failed; the report of the others is written.
        Interrupted: it was asked to stop; the same call resumes it.
    """
    from pipelines.config.load import load_ablation

    settings = load_ablation(os.fspath(config))
    from pipelines.actions.ablate import ablate_command

    ablate_command(settings, os.fspath(out))
    return _results(out)


def load_run(folder: Path) -> LoadedRun:
    """Return the trained model of a run folder, or of a run at "hub:ORG/NAME", with its task.

    Raises:
        UserError: there is no finished run, its model was not kept, or one of its files has changed.
    """
    from pipelines.runs.load import load_run_model

    return load_run_model(os.fspath(folder))


def report(*folders: Path, out: Path | None = None) -> dict[str, Any]:
    """Compute the results of ablations again, write their report, and return them; no model is needed.

    Args:
        folders: folders of ablations.
        out: where to write; None: into the folder of the one ablation.

    Raises:
        UserError: not an ablation folder, no finished run in it, or ablations with different baselines.
    """
    from pipelines.actions.report import report_command
    from pipelines.errors import UserError

    if not folders:
        raise UserError("report", "names no folder", accepted="give at least one folder of an ablation")
    report_command([os.fspath(folder) for folder in folders], None if out is None else os.fspath(out))
    return _results(out or folders[0])


def compare(
    *sides: Path,
    out: Path,
    task: str | None = None,
    references: Path | None = None,
    scores: Sequence[str] = (),
    lower_is_better: bool = False,
    metric: str | None = None,
    margin: float | None = None,
    split: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Compare predictions or scores that others made, write the report into `out`, and return the results.

    Args:
        sides: files, patterns with a file for each seed, run folders, "hub:ORG/NAME"; the first is the
            baseline, and "NAME=..." names a side.
        task: the task whose metrics score predictions.
        references: the file of what predictions are compared with; None: a run among the sides has them.
        scores: names of scores that the files give for each example, the primary one first.
        lower_is_better: of the scores.
        metric: the primary metric; None: that of the task.
        margin: largest difference of the primary metric that does not matter.
        split: which split the predictions are of.
        settings: settings of the task and the data, such as {"task.target_language": "de"}.

    Raises:
        UserError: a file cannot be read, or the sides are not of the same examples.
    """
    from pipelines.actions.compare import Request, compare_command

    request = Request(
        sides=[os.fspath(side) for side in sides],
        task=task,
        settings=[f"{name}={json.dumps(value)}" for name, value in (settings or {}).items()],
        references=None if references is None else os.fspath(references),
        scores=list(scores),
        lower_is_better=lower_is_better,
        metric=metric,
        margin=margin,
        split=split,
    )
    compare_command(request, os.fspath(out))
    return _results(out)


def _results(folder: Path) -> dict[str, Any]:
    from pipelines.ablation.results import read_results

    found = read_results(pathlib.Path(folder))
    assert found is not None  # just written
    return found
