"""Predictions scored again give the statistics that their run has stored, for every metric."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.comparison import rescored
from pipelines.metrics.load import load
from pipelines.runs import identity
from tests.pipelines import stored_ablation as made
from tests.pipelines.metrics.test_adapter import CASES

OTHERS = {  # of metrics that have sparse tables or see all examples at once
    "several labels": (
        "classification_f1",
        {"labels": ["p", "q", "r"]},
        [["p"], [], ["q"]],
        [["r"], ["p"], []],
    ),
    "one average": ("classification_f1", {"labels": ["p", "q"], "average": "micro"}, ["p", "q"], ["q", "q"]),
    "ranks": ("spearman", {}, [3.5, -1.0, 2.25, 0.5, 8.0], [1.0, 0.0, 4.0, 4.0, 9.0]),
    "moments": ("pearson", {}, [3.5, -1.0, 2.25, 0.5, 8.0], [1.0, 0.0, 4.0, 4.0, 9.0]),
}
STORED = OTHERS | {module: (module, *case) for module, case in CASES.items()}


def finished(path, module, options, predictions, references):
    """Write a run with one metric and return its folder and its manifest."""
    metric, ids = load(module, options), [f"row {number}" for number in range(len(references))]
    written = (json.dumps(one, default=np.ndarray.tolist) for one in (predictions, references))
    plain = [json.loads(one.replace(r"\ud83d", "?")) for one in written]  # which no file of data holds
    evaluation = SimpleNamespace(ids=ids, clusters=ids, predictions=plain[0], references=plain[1])
    evaluation.metrics, evaluation.statistics = {metric.name: metric}, {metric.name: metric.table(*plain)}
    run = made.config().run_config("toy", "gate", 1)
    made.finish(path, run, identity.describe(run), evaluation=evaluation)
    return path, json.loads((path / "manifest.json").read_text())


@pytest.mark.parametrize("name", sorted(STORED))
def test_what_a_run_wrote_agrees_whatever_its_metric(name, tmp_path):
    assert list(rescored.differences(*finished(tmp_path / "run", *STORED[name]))) == []


@pytest.mark.parametrize("name", sorted(OTHERS))
@pytest.mark.parametrize(("prediction", "what"), [(None, "changed"), ({"no": "prediction"}, "cannot score")])
def test_another_prediction_is_found_whatever_the_metric(name, prediction, what, tmp_path):
    folder, manifest = finished(tmp_path / "run", *STORED[name])
    path = folder / "predictions.test.jsonl"
    first, *rest = map(json.loads, path.read_text().splitlines())
    swapped = next(row["prediction"] for row in rest if row["prediction"] != first["prediction"])
    first["prediction"] = prediction or swapped
    path.write_text("".join(json.dumps(row) + "\n" for row in [first, *rest]))
    [(file, found)] = rescored.differences(folder, manifest)
    assert file == path.name
    assert "line 1" in found if what == "changed" else what in found
