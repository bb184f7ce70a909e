"""Arms with other models are called a comparison of models: in the report, in JSON and on the card."""

from __future__ import annotations

import json

import yaml

from pipelines import report
from pipelines.actions.answers.judged import judged
from pipelines.config.load import load_ablation
from pipelines.publish.ablation_card import TAGS
from tests.pipelines import stored_ablation as made

MODELS = {"stock": [], "other": {"set": {"model": {"architecture": "electra"}, "learning_rate": 3e-4}}}


def test_another_model_is_no_ablation_of_attention(tmp_path):
    folder = made.reported(tmp_path, arms=MODELS)
    results = json.loads((folder / "results.json").read_text())
    texts = report.render(results, folder)
    markdown = " ".join(texts["report.md"].split())
    assert '<p class="kicker">Model comparison</p>' in texts["report.html"]
    assert "1 model against stock on toy" in markdown
    assert "model architecture electra instead of bert; learning rate 0.0003" in markdown
    assert "(another model)" in markdown
    assert "the baseline: bert from scratch" in markdown
    assert "Runs of one seed share the order of the data, and nothing of the models, across arms" in markdown
    assert "attention" not in markdown.replace("(no change of attention)", "")
    kind = judged(results, folder, None).kind
    assert (kind, TAGS[kind]) == ("model comparison", ["model-comparison"])


def test_attention_beside_models_is_an_ablation_of_attention(tmp_path):
    folder = made.reported(tmp_path, arms=MODELS | {"gate": ["gate"]})
    results = json.loads((folder / "results.json").read_text())
    assert judged(results, folder, None).kind == "attention ablation"
    slow = made.reported(tmp_path, "slow", arms={"stock": [], "slow": {"set": {"learning_rate": 1e-5}}})
    results = json.loads((slow / "results.json").read_text())
    assert judged(results, slow, None).kind == "ablation"


def test_an_ablation_file_may_set_the_model_of_an_arm(tmp_path):
    run = made.RUN | {"model": {"architecture": "bert", "family": "encoder", "vocab_size": 300}}
    sizes = {"bert": {"config": {"hidden_size": 24}}, "distilbert": {"config": {"dim": 24}}}
    sizes["distilbert"]["architecture"] = "distilbert"
    arms = {name: {"set": {"model": model}} for name, model in sizes.items()}
    file = tmp_path / "a.yaml"
    file.write_text(yaml.safe_dump({"cells": {"ner": [run]}, "arms": arms, "baseline": "bert", "seeds": [1]}))
    config = load_ablation(str(file))
    models = [config.run_config("ner", arm, 1).model for arm in arms]
    assert [model.architecture for model in models] == ["bert", "distilbert"]
    assert [model.config for model in models] == [{"hidden_size": 24}, {"dim": 24}]
