"""Trackers get the numbers of metrics.jsonl; a missing package is refused; the run hash does not change."""

from __future__ import annotations

import json
import os
from typing import ClassVar

import pytest
import yaml
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType

from pipelines.cli.main import main
from pipelines.config.load import load_run
from pipelines.errors import UserError
from pipelines.runs import identity
from pipelines.train import trackers

RUN = {
    "task": "ner",
    "data": {"generated": {"name": "ner", "train": 17, "validation": 7}},
    "model": {"architecture": "bert", "family": "encoder", "vocab_size": 300},
    "max_steps": 5,
    "eval_every_steps": 3,
    "log_every_steps": 2,
    "trackers": ["tensorboard"],
}
RUN["model"]["config"] = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3}


class Remembering(GeneralTracker):
    """Takes tensorboard's place and remembers what it hears."""

    name = "tensorboard"
    requires_logging_directory = True
    heard: ClassVar[list] = []

    def __init__(self, run_name, logging_dir, **kwargs):
        super().__init__()
        self.heard.clear()
        self.heard.append(("init", run_name, str(logging_dir)))

    @property
    def tracker(self):
        return self

    def store_init_configuration(self, values):
        self.heard.append(("config", values))

    def log(self, values, step=None, **kwargs):
        self.heard.append(("log", step, values))

    def finish(self):
        self.heard.append(("finish",))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(RUN))
    return str(path)


def test_a_tracker_hears_every_number_of_the_log_and_is_closed(file, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "PACKAGES", {"tensorboard": ("json",)})
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [LoggerType.TENSORBOARD])
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "tensorboard", Remembering)
    assert main(["train", file, "--out", str(tmp_path / "run")]) == 0
    first, config, *logged, last = Remembering.heard
    assert first == ("init", "attnlab", str(tmp_path / "run" / "trackers"))
    assert config[1]["learning_rate"] == 5e-5
    assert config[1]["data.generated.train"] == 17
    assert last == ("finish",)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [step for _, step, _ in logged] == [line["step"] for line in lines]
    for (_, _, values), line in zip(logged, lines):
        head = line.get("split", line["event"])
        assert values[f"{head}/loss"] == line["loss"]
    assert {"validation/f1", "validation/loss"} <= set(logged[-1][2] | logged[-2][2])


def test_a_missing_package_is_one_sentence(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "PACKAGES", {"tensorboard": ("no_such_package_here",)})
    assert main(["train", file, "--out", str(tmp_path / "run")]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line == "trackers: tensorboard is not installed; pip install no_such_package_here."


def test_a_tracker_makes_no_other_run(file):
    with_one, without = load_run([file]), load_run([file], ["trackers=[]"])
    assert identity.describe(with_one) == identity.describe(without)


def test_an_unknown_tracker_is_refused(file):
    with pytest.raises(UserError, match="tensorboard"):
        load_run([file], ["trackers=[mlfow]"])


def test_mlflow_gets_the_numbers_in_files_of_the_run_folder(file, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is an extra: pip install 'attnlab[mlflow]'")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "run"
    assert main(["train", file, "trackers=[mlflow]", "--out", str(run)]) == 0
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.MlflowClient((run / "trackers").as_uri())
    [experiment] = client.search_experiments(filter_string="name = 'attnlab'")
    [found] = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    assert found.data.params["learning_rate"] == "5e-05"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [(line["step"], line["loss"]) for line in lines if line["event"] == "train"]
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [(one.step, one.value) for one in history] == losses
    assert "MLFLOW_TRACKING_URI" not in os.environ
