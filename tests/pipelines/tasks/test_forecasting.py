"""Forecasting: windows by hand, errors in the unit of train, gaps refused, parts of a file, the whole way."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
import transformers
import yaml

from pipelines.cli.main import main
from pipelines.corpora import forecasting as hours
from pipelines.errors import UserError
from pipelines.metrics.mse import MeanSquaredError
from pipelines.tasks.forecasting import Forecasting
from pipelines.tasks.shared.baselines import baseline_scores

ROWS = [row | {"id": str(n)} for n, row in enumerate(hours.generate(60, 0, "train"), start=1)]
SIZES = {
    "d_model": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "ffn_dim": 13,
    "patch_length": 4,
    "patch_stride": 2,
    "norm_type": "layernorm",
}


def task(rows=ROWS, **options) -> Forecasting:
    made = Forecasting(**{"channels": ["load", "heat"], "context_len": 12, "horizon": 5} | options)
    made.fit({"train": rows})
    made.bind(None, "encoder")
    return made


def model(made: Forecasting):
    torch.manual_seed(0)
    config = transformers.PatchTSTConfig(**SIZES, **made.model_options())
    return transformers.PatchTSTForPrediction(config).eval()


def test_windows_by_hand():
    rows = [{"id": f"r{n}", "x": n} for n in range(10)]
    made = Forecasting(channels=["x"], context_len=3, horizon=2, stride=2)
    windows = made.examples(rows)
    assert [window["id"] for window in windows] == ["r3", "r5", "r7"]
    assert [window["past"].ravel().tolist() for window in windows] == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    assert [window["future"].ravel().tolist() for window in windows] == [[3, 4], [5, 6], [7, 8]]
    assert [window["cluster"] for window in windows] == ["0", "1", "2"]
    [last] = made.inputs(rows)
    assert last["past"].ravel().tolist() == [7, 8, 9]
    assert "future" not in last


def test_the_error_is_in_standard_deviations_of_train():
    rows = [{"id": str(n), "x": x, "y": 10 * x} for n, x in enumerate([0.0, 2.0, 0.0, 2.0, 0.0, 2.0])]
    made = Forecasting(channels=["x", "y"], context_len=2, horizon=1)
    made.fit({"train": rows})  # standard deviations 1 and 10
    [example, *_] = made.examples(rows)
    prediction = made.assemble(example, [{"forecast": [[3.0, 0.0]]}])
    metric = MeanSquaredError()
    statistics = metric.statistics(prediction, made.reference(example))  # right are 0 and 0
    assert statistics.tolist() == [9.0, 2.0]
    scores = baseline_scores(made, rows, made.examples(rows))
    assert scores["last value"]["mse"] == pytest.approx(4)
    assert scores["mean of train"]["mse"] == pytest.approx(1)
    assert made.answer(example, [{"forecast": [[3.0, 0.0]]}]) == {"forecast": {"x": [3.0], "y": [0.0]}}


def test_loss_is_the_sum_over_windows_and_agrees_with_the_metric():
    made = task()
    examples = made.examples(ROWS)
    network, features = model(made), made.prepare(examples)
    with torch.no_grad():
        alone = [made.predict(network, made.collate([feature]))[0] for feature in features]
        together = made.predict(network, made.collate(features))
        summed = made.loss(network, made.collate(features)).item()
    for one, other in zip(alone, together):
        assert np.allclose(one["forecast"], other["forecast"], atol=1e-5)
    assert summed == pytest.approx(sum(one["loss"] for one in alone), rel=1e-5)
    metric = made.metrics["mse"]
    errors = [
        metric.statistics(made.assemble(example, [raw]), made.reference(example))
        for example, raw in zip(examples, together)
    ]
    num_targets = sum(feature["num_targets"] for feature in features)
    assert metric.score(sum(errors)) == pytest.approx(summed / num_targets, rel=1e-3)  # four digits are kept


def test_the_model_is_told_the_sizes_and_a_window_costs_its_values():
    made = task()
    assert made.model_options() == {"context_length": 12, "prediction_length": 5, "num_input_channels": 2}
    assert made.feature_len({}) == 1
    assert task(context_len=48).feature_len({}) == 6


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"load": "n/a"}, "has 'n/a' as 'load', which is not a number"),
        ({"load": float("nan")}, "has nan as 'load', which is not a number"),
        ({"heat": True}, "has True as 'heat', which is not a number"),
        ({"time": "yesterday"}, "has the time 'yesterday', which is not ISO 8601"),
    ],
)
def test_a_faulty_row_is_refused_with_its_reason(changes, reason):
    assert reason in task().check(ROWS[0] | changes)
    assert task().check(ROWS[0]) is None
    assert task().check(ROWS[0] | {"load": "1.5e1"}) is None  # csv has text cells


def test_a_series_that_is_broken_flat_or_short_is_refused():
    with pytest.raises(UserError, match=r"row 31: the time advances by 2:00:00 here and by 1:00:00 before"):
        task().examples(ROWS[:29] + ROWS[30:])
    with pytest.raises(UserError, match="row 59: the time is not after that of the row before"):
        task().examples(ROWS[::-1])
    with pytest.raises(UserError, match="ends after 16 rows, and a window has 17"):
        task().examples(ROWS[:16])
    with pytest.raises(UserError, match=r"never change in train.*\['heat'\]"):
        task([row | {"heat": 3} for row in ROWS])


# ---- parts of a file and the whole way
@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> dict:
    """A run on three parts of one file, as text cells, with the file's own names."""
    file = tmp_path_factory.mktemp("data") / "hours.csv"
    with open(file, "w", newline="") as written:
        writer = csv.writer(written)
        writer.writerow(["date", "load", "heat"])
        writer.writerows([row["time"], row["load"], row["heat"]] for row in hours.generate(160, 0, "train"))
    return {
        "task": {"name": "forecasting", "channels": ["load", "heat"], "context_len": 12, "horizon": 5},
        "data": {"train": f"{file}[:60%]", "validation": f"{file}[84:128]", "test": f"{file}[-44:]"},
        "model": {"architecture": "patchtst", "family": "encoder", "config": SIZES},
        "batch_size": 16,
        "num_epochs": 2,
        "device": "cpu",
        "diagnostics_every_steps": None,
    }


def test_parts_of_one_file_are_trained_on_evaluated_and_forecast(settings, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings | {"attention": ["gate"]}))
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "run.yaml"), "--out", str(run)]) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in (run / "predictions.test.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [str(number) for number in range(129, 157)]  # numbers in the file
    assert main(["evaluate", str(run)]) == 0
    assert "as the run reported" in capsys.readouterr().out
    file = settings["data"]["train"].partition("[")[0]
    assert main(["predict", str(run), "--input", file]) == 0
    [answer] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert answer["id"] == "160"
    assert {name: len(values) for name, values in answer["forecast"].items()} == {"load": 5, "heat": 5}
    assert 10 < np.mean(answer["forecast"]["heat"]) < 50  # the unit of the data


def test_another_part_is_another_run(settings, tmp_path, capsys):
    from pipelines.config.load import run_from_dict
    from pipelines.runs import identity

    def hashed(part: str) -> str:
        data = settings["data"] | {"test": settings["data"]["train"].partition("[")[0] + part}
        return identity.run_hash(identity.describe(run_from_dict(settings | {"data": data})))

    assert hashed("[-44:]") == hashed("[-44:]") != hashed("[-45:]")


def test_a_channel_that_is_not_there_is_told_with_those_that_are(settings, tmp_path, capsys):
    task = settings["task"] | {"channels": ["load", "head"]}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings | {"task": task}))
    assert main(["train", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "hours.csv: has no column 'head', which the task takes as 'head' (a channel)" in said
    assert "did you mean 'heat'? columns there: date, load, heat" in said  # no mapping is offered


def test_a_gap_is_told_with_file_and_row(settings, tmp_path, capsys):
    whole = settings["data"]["train"].partition("[")[0]
    with open(whole) as read:
        lines = read.read().splitlines()
    gap = tmp_path / "gap.csv"
    gap.write_text("\n".join(lines[:100] + lines[101:]))
    data = settings["data"] | {"validation": f"{gap}[84:128]"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings | {"data": data}))
    assert main(["train", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run")]) == 2
    assert "gap.csv, row 100: the time advances by 2:00:00 here and by 1:00:00" in capsys.readouterr().err
