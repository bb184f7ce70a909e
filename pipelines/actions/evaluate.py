"""`attnlab evaluate`: score a finished run, or a pretrained model, on a split or another file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pipelines.config.run import DataConfig, RunConfig
from pipelines.data import counts
from pipelines.data import features as feature_cache
from pipelines.data.splits import SPLITS, load_splits
from pipelines.errors import UserError
from pipelines.metrics.adapter import reported_score
from pipelines.runs.load import LoadedRun, load_run_model
from pipelines.runs.pretrained import untrained
from pipelines.storage import atomic
from pipelines.train.evaluate import Evaluation, evaluate


def evaluate_command(
    source: str | RunConfig, data: str | None, split: str | None, predictions: str | None
) -> None:
    """Score a model and print the scores; nothing of a run is changed.

    Args:
        source: the folder of a finished run or "hub:ORG/NAME"; or a configuration, whose pretrained model is
            scored as it stands.
        data: a file with the columns of the run's own data; None: the run's own data.
        split: of the run's own data; None: test where there is one, else validation.
        predictions: file for one JSON line per example; None writes none.
    """
    if data is not None and split is not None:
        raise UserError("--split", "a file has no splits", split, "give --data or --split")
    finished = load_run_model(source) if isinstance(source, str) else untrained(source)
    split = "test" if data else split or ("test" if _has_test(finished) else "validation")
    config = other_data(finished.config.data, data) if data else only(finished.config.data, split)
    evaluation, cut = score(finished, config, split)
    for line in _sentences(finished, evaluation, data, split, cut):
        print(line)
    if predictions is not None:
        rows = zip(evaluation.ids, evaluation.predictions, evaluation.references)
        lines = (
            json.dumps({"id": i, "prediction": p, "reference": r}, ensure_ascii=False) for i, p, r in rows
        )
        atomic.write_bytes(Path(predictions), ("\n".join(lines) + "\n").encode())


def _has_test(finished: LoadedRun) -> bool:
    """Whether a finished run scored a test split, or a configuration names one."""
    data, scored = finished.config.data, finished.manifest["scores"]
    return "test" in scored or (not scored and bool(data.test or (data.generated and data.generated.test)))


def score(finished: LoadedRun, data: DataConfig, split: str) -> tuple[Evaluation, str]:
    """Predict one split and score it, with the thresholds that the run chose on its validation split; and
    say what of it was cut to fit the model."""
    task, config = finished.task, finished.config
    splits = load_splits(data, task, required=(split,))
    examples = getattr(splits, split)
    features = feature_cache.build(task, examples, split, None, "")
    evaluation = evaluate(
        finished.accelerator, finished.model, task, examples, features, max_tokens=config.eval_max_tokens
    )
    return evaluation, counts.describe_cuts(features.counts)


def only(data: DataConfig, split: str) -> DataConfig:
    """The data section with one split alone, so that nothing else is read."""
    if data.generated is not None:
        others = {name: 0 for name in SPLITS if name != split}
        if not getattr(data.generated, split):
            raise UserError("--split", f"the generated corpus of this run has no {split} split", split)
        return data.model_copy(update={"generated": data.generated.model_copy(update=others)})
    if data.name is not None:
        return data
    return data.model_copy(update={name: None for name in SPLITS if name != split})


def other_data(data: DataConfig, file: str) -> DataConfig:
    """A data section that reads `file` as the test split, by the columns of the run."""
    kept = {"columns": data.columns, "encoding": data.encoding, "on_bad_row": data.on_bad_row}
    return DataConfig(test=file, **kept)


def _sentences(
    finished: LoadedRun, evaluation: Evaluation, data: str | None, split: str, cut: str
) -> Iterator[str]:
    """Scores by the metrics' own libraries; for the run's own split beside what the run reported."""
    loss = "" if evaluation.loss is None else f", loss {evaluation.loss:.4f}"
    yield f"{data or split}: {len(evaluation.ids):,} examples{loss}, {evaluation.seconds:.1f} s{cut}"
    before = {} if data else finished.manifest["scores"].get(split, {})
    for name, metric in evaluation.metrics.items():
        value = reported_score(
            metric, evaluation.predictions, evaluation.references, evaluation.statistics[name]
        )
        same = name in before and abs(before[name] - value) < 1e-9
        said = (
            ""
            if name not in before
            else ", as the run said"
            if same
            else f", the run said {before[name]:.2f}"
        )
        yield f"  {name} {value:.2f}  ({metric.signature}{said})"
