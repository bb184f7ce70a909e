"""`attnlab evaluate`: score a finished run, or a pretrained model, on a split or another file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pipelines.config.data import DataConfig
from pipelines.config.run import RunConfig
from pipelines.data import counts
from pipelines.data import features as feature_cache
from pipelines.data.splits import SPLITS, load_splits
from pipelines.errors import UserError
from pipelines.hub.address import is_address
from pipelines.metrics.adapter import reported_score
from pipelines.metrics.base import notes
from pipelines.models import starting_point
from pipelines.models.decoding import set_aside
from pipelines.publish.portable import locate_files
from pipelines.runs.load import LoadedRun, load_run_model
from pipelines.runs.locate import find_run_folder
from pipelines.runs.pretrained import load_pretrained
from pipelines.shown import plural, printable
from pipelines.storage import atomic
from pipelines.storage.paths import require_writable
from pipelines.tasks.shared.generation import describe_set_aside
from pipelines.train.evaluate import Evaluation, evaluate
from pipelines.train.speed.unpadding import unpadded


def evaluate_command(
    source: str | RunConfig, data: str | None, split: str | None, predictions: str | None
) -> None:
    """Score a model and print the scores; the run is not changed.

    Args:
        source: the folder of a finished run or "hub:ORG/NAME"; or a configuration, whose pretrained model is
            scored without training.
        data: a file with the columns of the run's own data; None: the run's own data.
        split: of the run's own data; None: test if there is one, else validation.
        predictions: file for one JSON line per example; None: predictions are not written.

    Raises:
        UserError: there is no such run or split, or the data cannot be read.
    """
    require_writable("--predictions", predictions, [data])
    if data is not None and split is not None:
        raise UserError("--split", "a file has no splits", split, "give --data or --split")
    if isinstance(source, str):
        finished = load_run_model(source)
    else:
        finished = load_pretrained(starting_point.pinned_run(source))
    split = "test" if data else split or ("test" if _has_test(finished) else "validation")
    config = file_as_test(finished.config.data, data) if data else one_split(finished.config.data, split)
    if isinstance(source, str) and is_address(source) and data is None:
        config = _as_the_run_read_it(config, source)
    evaluation, cut = score(finished, config, split)
    for line in _sentences(finished, evaluation, data, split, cut):
        print(printable(line))
    if predictions is not None:
        rows = zip(evaluation.ids, evaluation.predictions, evaluation.references)
        lines = (
            json.dumps({"id": i, "prediction": p, "reference": r}, ensure_ascii=False) for i, p, r in rows
        )
        atomic.write_bytes(Path(predictions), ("\n".join(lines) + "\n").encode())


def _as_the_run_read_it(data: DataConfig, address: str) -> DataConfig:
    """Return the data of a downloaded run with files of the working folder that have the content it read.

    Raises:
        UserError: a file is missing or has another content, or a name leads out of the working folder.
    """
    run = find_run_folder(address)
    values = {"data": data.model_dump(mode="json")}
    located = locate_files(values, run.path, [run])["data"]
    return data.model_copy(update={name: located[name] for name in ("name", *SPLITS)})


def _has_test(finished: LoadedRun) -> bool:
    """Whether a finished run scored a test split, or a configuration names one."""
    data, scored = finished.config.data, finished.scores
    named = data.test or (data.split and data.split.test) or (data.generated and data.generated.test)
    return "test" in scored or (not scored and bool(named))


def score(finished: LoadedRun, data: DataConfig, split: str) -> tuple[Evaluation, str]:
    """Predict and score one split, with the thresholds that the run chose on validation.

    Returns:
        The evaluation, and a clause on what was cut to fit the model.
    """
    task, config = finished.task, finished.config
    splits = load_splits(data, task, required=(split,))
    examples = getattr(splits, split)
    features = feature_cache.build(task, examples, split, None, "")
    accelerator, model = finished.accelerator, finished.model
    with unpadded(model, task, features, accelerator.device) as unpadding:
        evaluation = evaluate(
            accelerator,
            model,
            task,
            examples,
            features,
            max_tokens=config.eval_max_tokens,
            unpadding=unpadding,
        )
    return evaluation, counts.describe_cuts(features.counts)


def one_split(data: DataConfig, split: str) -> DataConfig:
    """Return the data section with one split only, so that nothing else is read.

    Raises:
        UserError: the generated corpus of the run has no such split.
    """
    if data.generated is not None:
        others = {name: 0 for name in SPLITS if name != split}
        if not getattr(data.generated, split):
            raise UserError("--split", f"the generated corpus of this run has no {split} split", split)
        return data.model_copy(update={"generated": data.generated.model_copy(update=others)})
    if data.name is not None or data.split is not None:
        return data
    return data.model_copy(update={name: None for name in SPLITS if name != split})


def file_as_test(data: DataConfig, file: str) -> DataConfig:
    """Return a data section that reads `file` as the test split, with the columns of the run."""
    return DataConfig.model_validate(
        {
            "test": file,
            "columns": data.columns,
            "encoding": data.encoding,
            "on_bad_row": data.on_bad_row,
        }
    )


def _sentences(
    finished: LoadedRun, evaluation: Evaluation, data: str | None, split: str, cut: str
) -> Iterator[str]:
    """Describe the scores, computed by the metrics' own libraries, beside those that the run reported."""
    if set_aside(finished.model):
        yield describe_set_aside(set_aside(finished.model))
    loss = "" if evaluation.loss is None else f", loss {evaluation.loss:.4f}"
    yield f"{data or split}: {plural(len(evaluation.ids), 'example')}{loss}, {evaluation.seconds:.1f} s{cut}"
    before = {} if data else finished.scores.get(split, {})
    for name, metric in evaluation.metrics.items():
        value = reported_score(
            metric, evaluation.predictions, evaluation.references, evaluation.statistics[name]
        )
        reported = ""
        if name in before:
            is_same = abs(before[name] - value) < 1e-9
            reported = ", as the run reported" if is_same else f", the run reported {before[name]:.2f}"
        yield f"  {name} {value:.2f}  ({metric.signature}{reported})"
    for note in notes(evaluation.metrics, evaluation.references):
        yield f"  note: {note}"
