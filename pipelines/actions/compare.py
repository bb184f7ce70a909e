"""`attnlab compare`: judge predictions or scores that others made, as an ablation judges its runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipelines import report
from pipelines.ablation import looks
from pipelines.ablation.results import write
from pipelines.actions.answers import Judged
from pipelines.actions.answers.judged import judged
from pipelines.comparison import compare, rescored
from pipelines.comparison.expectation import Expected
from pipelines.comparison.scored_run import common_split
from pipelines.config.load import RunConfig, load_run
from pipelines.errors import UserError
from pipelines.hub.address import is_address
from pipelines.metrics.base import Metric
from pipelines.metrics.mean_score import MeanScore
from pipelines.predictions import doubles, record, references, run_side, scored
from pipelines.predictions import examples as known_examples
from pipelines.predictions import sides as find_sides
from pipelines.predictions.doubles import At
from pipelines.predictions.examples import Examples
from pipelines.predictions.outputs import Outputs
from pipelines.predictions.read import read
from pipelines.predictions.run_side import RunSide
from pipelines.predictions.sides import Side, Sides
from pipelines.predictions.table import NamedColumns
from pipelines.storage import atomic, reading, run_files
from pipelines.storage.names import COMPARISON, MANIFEST, REPORT, RUNS, SIDES
from pipelines.storage.paths import require_file
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import digest, require_intact, sealed
from pipelines.tasks.base import Task
from pipelines.tasks.load import load_task
from pipelines.terminal import Terminal

AGAIN = "write it again with attnlab compare"
SCORES = "scores"  # the name of the cell, and of the task, where numbers are given
NOT_STATED = "not stated"
ANY_MODEL = ("model.architecture=bert", "model.family=encoder")  # no model is loaded


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is compared, and how.

    Attributes:
        sides: paths, patterns, addresses; NAME=... names a side. The first is the baseline.
        task: name of the task whose metrics score predictions; None: that of a run among the sides. With
            scores it is only a name.
        settings: task.* and data.* as key=value.
        references: a file of references; None: those of a run among the sides.
        scores: names of scores that the files give, the primary one first; empty: predictions are scored.
        metric: the primary metric; None: that of the task.
        margin: largest difference of the primary metric that does not matter.
        split: which split the predictions are of; of runs, which of their splits is read.
    """

    sides: Sequence[str]
    task: str | None = None
    settings: Sequence[str] = ()
    references: str | None = None
    scores: Sequence[str] = ()
    lower_is_better: bool = False
    metric: str | None = None
    margin: float | None = None
    split: str | None = None
    names: NamedColumns = field(default_factory=NamedColumns)


@dataclass(frozen=True)
class Given:
    """The sides with what was read of their files: side -> key -> content."""

    sides: Sides
    files: Mapping[tuple[str, str], Outputs | RunSide]
    split: str

    @property
    def runs(self) -> list[RunSide]:
        return [one for one in self.files.values() if isinstance(one, RunSide)]


def compare_command(request: Request, out: str, expect: Expected | None = None) -> Judged:
    """Compare the sides, write the report into `out`, print it, and return the sides judged.

    Raises:
        UserError: a file cannot be read, the sides are not of the same examples, or nothing scores them.
    """
    folder = Path(out)
    if reading.is_there(folder / RUNS):
        raise UserError("--out", "is the folder of an ablation", out, "choose another folder")
    terminal = Terminal(errors=True)
    given = _read(request)
    for (name, _), one in given.files.items():
        terminal.say(f"{name}: {_described(one)}")
    judge(request, given, folder)
    return conclude(folder, expect)


def conclude(folder: Path, expect: Expected | None) -> Judged:
    """Compute the results of a comparison from its records, write and print its report, and return it judged.

    Raises:
        UserError: a record is missing or has changed.
    """
    results = results_of(folder)
    note_looks(results, folder)
    write(results, folder)
    report.print_table(results, Terminal(), folder)
    Terminal(errors=True).say(f"report: {folder / REPORT}")
    return judged(results, folder, expect)


def score(request: Request, folder: Path) -> None:
    """Read the files of a request, score them, and write their records into a folder, as before the report.

    Raises:
        UserError: as `compare_command`.
    """
    judge(request, _read(request), folder)


def _described(one: Outputs | RunSide) -> str:
    if isinstance(one, RunSide):
        return f"{one.run.label}, a run of attnlab, {len(one.run.ids):,} examples of {one.run.split}"
    return f"{one.where}, {one.layout}, {one.count:,} examples"


# ---- reading
def _read(request: Request) -> Given:
    """Read every file.

    Raises:
        UserError: one cannot be read, or the options do not fit together.
    """
    if request.scores and (request.references or request.metric):
        what = "scores that are given need no references and no metric"
        raise UserError("--score", what, accepted="leave --references and --metric out")
    sides = find_sides.find(request.sides)
    texts = {(side.name, key): text for side in sides.sides for key, text in side.files.items()}
    folders = {at: run_side.folder_of(text) for at, text in texts.items()}
    found = [folder for folder in folders.values() if folder is not None]
    if found and request.scores:
        fix = "leave --score out, or give its scores in a file"
        raise UserError("--score", "a run of attnlab is scored by its own metrics", str(found[0]), fix)
    split = request.split or (common_split(found) if found else "test")
    files: dict[tuple[str, str], Outputs | RunSide] = {}
    for at, text in texts.items():
        folder = folders[at]
        if folder is None and is_address(text):
            raise UserError(text, "is no run of attnlab", accepted="download its files and name them")
        files[at] = (
            read(text, request.names, _encoding(request.settings))
            if folder is None
            else run_side.read_run(folder, text, split)
        )
    doubles.refuse(texts, {at: _content(texts[at], one) for at, one in files.items()})
    return Given(sides, files, split)


def _encoding(settings: Sequence[str]) -> str | None:
    """Return the encoding that the user names for text; the references have it too."""
    return next((text.partition("=")[2] for text in settings if text.startswith("data.encoding=")), None)


# ---- scoring
def judge(request: Request, given: Given, folder: Path) -> None:
    """Score every file, and write its record and what is compared into `folder`.

    Raises:
        UserError: the sides are not of the same examples, or nothing scores them.
    """
    task, examples = _examples(request, given)
    examples = examples.told_by(one for one in given.files.values() if isinstance(one, Outputs))
    metrics = _metrics(request, given, task)
    primary = _primary(request, given, task, metrics)
    cell_name = request.task or (given.runs[0].config.task.name if given.runs else SCORES)
    cell = {
        "task": {"name": cell_name},
        "model": {"name": NOT_STATED, "family": NOT_STATED},
        "data": {},
    }
    runs, sources = {}, dict[str, list[dict[str, Any]]]()
    every = {at: _scored(one, examples, task, metrics) for at, one in given.files.items()}
    _refuse_two_units(request, given, every)
    for place, side in enumerate(given.sides.sides):
        for seed, (key, text) in zip(given.sides.seeds, side.files.items()):
            one = given.files[side.name, key]
            source = {"file": text, "sha256": _sha256(text, one), "layout": _described(one)}
            known = one if isinstance(one, RunSide) else None
            name = f"{SIDES}/{place}-{seed}"
            scored_file = every[side.name, key]
            record.write(folder / name, scored_file, examples, cell, source, given.split, primary, known)
            runs[f"{side.name}/{seed}"] = name
            sources.setdefault(side.name, []).append(source)
    notes = {side.name: _notes(given, side, every) for side in given.sides.sides}
    ablation = {
        "cells": {cell_name: cell},
        "arms": {side.name: {} for side in given.sides.sides},
        "baseline": given.sides.baseline.name,
        "seeds": list(given.sides.seeds),
        "primary": {cell_name: primary},
        "margin": {} if request.margin is None else {primary: request.margin},
        "after_the_fact": True,
        "notes": {name: found for name, found in notes.items() if found},
    }
    stated = {"ablation": ablation, "runs": runs, "sources": sources, "test": examples.digest}
    stated |= {"request": asdict(request)}
    atomic.write_json(folder / COMPARISON, sealed(stated))


def _notes(given: Given, side: Side, every: Mapping[At, scored.ScoredFile]) -> list[str]:
    """Return what is to be said of a side: how it is paired, and which of its seeds may be copies."""
    told = [given.sides.note] if given.sides.note else []
    sides = {one.name: one for one in (given.sides.baseline, side)}.values()
    return told + [
        note for one in sides for note in doubles.alike(one.name, [every[one.name, key] for key in one.files])
    ]


def _refuse_two_units(request: Request, given: Given, every: Mapping[At, scored.ScoredFile]) -> None:
    """Refuse scores in two units.

    Raises:
        UserError: names the score and two files.
    """
    places = {at: one.where for at, one in given.files.items() if isinstance(one, Outputs)}
    for name in () if request.lower_is_better else request.scores:
        doubles.refuse_two_units(
            name, {places[at]: one.statistics[name][:, 0].tolist() for at, one in every.items()}
        )


def _examples(request: Request, given: Given) -> tuple[Task | None, Examples]:
    """Return the task that scores predictions (None: scores are given), and the examples.

    Raises:
        UserError: there is no task or no reference, or a run has other examples.
    """
    first = next(iter(given.files.values()))
    if request.scores:
        assert isinstance(first, Outputs)  # a run is refused with --score
        return None, known_examples.of_file(first)
    _require_one_task(request, given)
    task = given.runs[0].task() if given.runs else None
    if request.references is not None:
        require_file("--references", request.references)
        config = _config(request, given)
        task = task or load_task(config)
        data = config.data.model_copy(update={"validation": None})
        examples = known_examples.of_references(references.read(data, task))
        task = given.runs[0].task() if given.runs else task  # reading has taught it the labels of the file
    elif given.runs:
        side = next((one for one in given.runs if one.references is not None), given.runs[0])
        examples = known_examples.of_run(side)
    else:
        what = "predictions are compared with references, and there are none"
        fix = "name their file, or compare given scores with --score NAME"
        raise UserError("--references", what, accepted=fix)
    for one in given.runs:
        known_examples.require_same(examples, one)
    if examples.references is None and len(given.runs) < len(given.files):
        what = "a pushed run has no references to score the other files with"
        raise UserError("--references", what, accepted="name the file of its data")
    return task, examples


def _require_one_task(request: Request, given: Given) -> None:
    """Refuse sides without a task, or of different tasks.

    Raises:
        UserError: no task is named, or a run has another one, or states its options.
    """
    if not given.runs:
        if request.task is None:
            fix = "name it, such as --task ner (attnlab ls tasks), or compare given scores with --score NAME"
            raise UserError("--task", "no task says how predictions are scored", accepted=fix)
        return
    trained = [request.task, *(one.config.task.name for one in given.runs)]
    named = [name for name in dict.fromkeys(trained) if name is not None]
    if len(named) > 1:
        raise UserError("--task", "the sides are of different tasks", ", ".join(named), "compare one task")
    stated = next((text for text in request.settings if text.startswith("task.")), None)
    if stated is not None:
        what = "a run among the sides states the options of its task"
        raise UserError(stated, what, accepted="leave it out")


def _config(request: Request, given: Given) -> RunConfig:
    """Return the settings of the task and of the file of references, as those of a run.

    Raises:
        UserError: a setting is not valid, or the file does not exist.
    """
    task = given.runs[0].config.task if given.runs else None
    options = [] if task is None else [f"task.{name}={_yaml(value)}" for name, value in task.options.items()]
    name = request.task if task is None else task.name
    files = [f"data.{split}={_yaml(request.references)}" for split in ("train", "validation")]
    return load_run([], [f"task.name={name}", *options, *files, *ANY_MODEL, *request.settings])


def _yaml(value: Any) -> str:
    return atomic.yaml_text({"value": value}).partition(":")[2].strip()


def _metrics(request: Request, given: Given, task: Task | None) -> Mapping[str, Metric]:
    if given.runs:
        return given.runs[0].run.metrics
    if task is not None:
        return task.metrics
    return {name: MeanScore(name, not request.lower_is_better) for name in request.scores}


def _primary(request: Request, given: Given, task: Task | None, metrics: Mapping[str, Metric]) -> str:
    """Return the name of the primary metric.

    Raises:
        UserError: the one that was named is none of them.
    """
    if request.metric is not None and request.metric not in metrics:
        raise UserError("--metric", "the task has no such metric", request.metric, ", ".join(metrics))
    usual = given.runs[0].run.manifest["primary"] if given.runs else task.selects_by if task else None
    return request.metric or usual or next(iter(metrics))


def _scored(
    one: Outputs | RunSide, examples: Examples, task: Task | None, metrics: Mapping[str, Metric]
) -> scored.ScoredFile:
    if isinstance(one, RunSide):
        names, references = examples.names, one.references or ()
        read = (
            [task.read_prediction(written) for written in one.predictions or ()] if task is not None else ()
        )
        return scored.ScoredFile(
            names, examples.clusters or names, read, references, one.run.metrics, one.run.statistics
        )
    if task is not None:
        return scored.of_predictions(one, examples, task, metrics)
    given = {name: metric for name, metric in metrics.items() if isinstance(metric, MeanScore)}
    return scored.of_scores(one, examples, given)


def _content(text: str, one: Outputs | RunSide) -> str:
    """Return a hash of what a file holds, or of what a run is: made twice, it has the same bits."""
    return str(one.run.manifest["run_hash"]) if isinstance(one, RunSide) else _sha256(text, one)


def _sha256(text: str, one: Outputs | RunSide) -> str:
    if isinstance(one, RunSide):
        return digest(dict(one.run.manifest))
    return hashlib.sha256(Path(text).read_bytes()).hexdigest()


# ---- judging
def results_of(folder: Path) -> dict[str, Any]:
    """Compute the content of results.json from the records of a comparison.

    Raises:
        UserError: a record is missing or has changed.
    """
    stated = stated_in(folder)
    ablation = stated["ablation"]
    [cell] = ablation["cells"]
    runs = {}
    for name, path in stated["runs"].items():
        side, _, seed = name.rpartition("/")
        runs[cell, side, int(seed)] = folder / path
    return compare.combine([compare.Part(ablation, runs)], None, folder, stated["sources"])


def stated_in(folder: Path) -> dict[str, Any]:
    """Return what a comparison compares, as it was written before it was judged.

    Raises:
        UserError: it is missing or has changed.
    """
    found: dict[str, Any] = reading.json_object(folder / COMPARISON, AGAIN)
    require_intact(found, folder / COMPARISON, AGAIN)
    return found


def differences(folder: Path, stored: Mapping[str, Any]) -> Iterator[str]:
    """Yield what of a comparison is not what its records and files give; `attnlab verify` checks the reports.

    Args:
        stored: the content of its results.json.
    """
    try:
        stated = stated_in(folder)
    except UserError as error:
        yield error.sentence()
        return
    for name, path in stated["runs"].items():
        yield from (f"{name}: {line}" for line in _of_record(folder / path))
    for file in (one for files in stated["sources"].values() for one in files):
        path = Path(file["file"])
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != file["sha256"]:
            yield f"{path}: has changed since it was compared"
    yield from looks.misread(stored.get("ledger"))


def _of_record(folder: Path) -> Iterator[str]:
    """Yield the differences of one scored file: its own hashes, and its statistics from its predictions."""
    manifest = RunFolder(folder).manifest()
    if manifest is None:
        yield f"{MANIFEST}: is missing"
        return
    changed = list(run_files.differences(folder, manifest))
    yield from (f"{name}: {what}" for name, what in changed)
    known = {name for name, _ in changed}
    found = rescored.differences(folder, manifest)
    yield from (f"{name}: {what}" for name, what in found if name not in known)


def note_looks(results: dict[str, Any], folder: Path) -> None:
    """Note the comparison in the ledger beside its folder, as that of an ablation."""
    stated = stated_in(folder)
    [cell] = stated["ablation"]["cells"]
    looks.record_comparison(results, folder, digest(stated), {cell: stated["test"]}, len(stated["runs"]))
