"""The functions of `import attnlab`."""

from __future__ import annotations

import pytest
import yaml

import attnlab

RUN = {
    "task": {"name": "text_classification", "max_len": 32},
    "data": {"generated": {"name": "text_classification", "train": 12, "validation": 6}},
    "model": {
        "architecture": "bert",
        "family": "encoder",
        "vocab_size": 300,
        "config": {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        },
    },
    "max_steps": 1,
    "learning_rate": 5e-5,
}


def test_a_run_of_settings_and_the_same_run_of_a_file(tmp_path):
    manifest = attnlab.train(RUN, out=tmp_path / "run")
    assert manifest["status"] == "finished"
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(RUN))
    assert attnlab.train(tmp_path / "my.yaml", out=tmp_path / "run") == manifest
    run = attnlab.load_run(tmp_path / "run")
    assert run.config.max_steps == 1
    assert not run.model.training


def test_settings_are_checked_like_those_of_a_file(tmp_path):
    with pytest.raises(attnlab.UserError, match="perhaps text_classification was meant"):
        attnlab.train(RUN | {"task": {"name": "text_clasification"}}, out=tmp_path / "run")
    with pytest.raises(attnlab.UserError, match="from Python a run has one process"):
        attnlab.train(RUN | {"processes": 2}, out=tmp_path / "run")
    with pytest.raises(attnlab.UserError, match="names no folder"):
        attnlab.report()
    with pytest.raises(attnlab.UserError, match="needs two sides or more"):
        attnlab.compare(tmp_path, out=tmp_path / "out")


def test_an_ablation_and_its_report_again(tmp_path):
    cells = {"one": [RUN | {"diagnostics_every_steps": None}]}
    arms = {"stock": [], "gate": ["gate"]}
    text = yaml.safe_dump({"cells": cells, "arms": arms, "seeds": [1], "keep": "none", "jobs": 1})
    (tmp_path / "ablation.yaml").write_text(text)
    results = attnlab.ablate(tmp_path / "ablation.yaml", out=tmp_path / "out")
    assert attnlab.report(tmp_path / "out")["arms"] == results["arms"]
    with pytest.raises(attnlab.UserError, match="which compares its own arms; attnlab report"):
        attnlab.compare(tmp_path / "out", tmp_path / "out2", out=tmp_path / "both")
