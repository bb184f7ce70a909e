"""A report states what was run and what each arm changes, in every format, and never more than it knows."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import synthetic
import yaml
from scipy import stats

from pipelines import report
from pipelines.ablation.folder import open_ablation
from pipelines.actions.plan import make_plans
from pipelines.config.load import AblationConfig
from pipelines.report import data, headline, recipe, sentences, settling
from tests.pipelines import stored_ablation as made

ARMS = {
    "stock": [],
    "slow": {"attention": [], "set": {"learning_rate": 1e-5, "model": {"config": {"dropout": 0.3}}}},
    "warm": {"attention": [{"temperature": {"per": "head"}}], "where": {"layers": "0-1"}},
    "again": {"attention": [], "seed_offset": 50},
}
SAID = {
    "slow": ("learning rate 1e-05 instead of 5e-05", "model config dropout 0.3 instead of none"),
    "warm": ("temperature (per head) instead of stock attention", "layers 0-1 instead of all"),
    "again": ("seeds raised by 50 instead of 0",),
}


@pytest.fixture
def folder(tmp_path) -> Path:
    return made.reported(tmp_path, arms=ARMS)


def facts_of(folder: Path) -> data.ReportData:
    return data.load(json.loads((folder / "results.json").read_text()), folder)


def test_every_setting_that_differs_is_stated_in_every_format(folder):
    results = json.loads((folder / "results.json").read_text())
    changed = {
        arm: {change["setting"] for change in about["changes"]}
        for arm, about in results["recipe"]["toy"]["arms"].items()
    }
    assert changed == {
        "stock": set(),
        "slow": {"learning_rate", "model.config.dropout"},
        "warm": {"attention", "where.layers"},
        "again": {"seed_offset"},
    }
    texts = report.render(results, folder)
    methods = sentences.methods(facts_of(folder))
    for words in SAID.values():
        for said in words:
            assert said in texts["report.html"]
            assert said in texts["report.md"]
            assert said in methods


def test_an_arm_is_called_one_of_attention_only_if_it_changes_it(folder):
    words = {one.arm: one.words for one in recipe.arms(facts_of(folder))}
    assert {arm for arm, said in words.items() if said.endswith("(no change of attention)")} == {
        "slow",
        "again",
    }


def test_the_yaml_of_the_arms_gives_the_same_arms(folder):
    stated = yaml.safe_load(recipe.arms_yaml(facts_of(folder)))["arms"]
    again = AblationConfig.model_validate(open_ablation(folder).config.to_dict() | {"arms": stated})
    assert again.arms == open_ablation(folder).config.arms


def test_only_arms_of_attention_are_compared_with_stock_attention(tmp_path):
    mixed = facts_of(made.reported(tmp_path / "a", arms=ARMS))
    alone = facts_of(made.reported(tmp_path / "b", arms=("stock", "gate")))
    rates = {name: ARMS[name] for name in ("stock", "slow")}
    no_attention = facts_of(made.reported(tmp_path / "c", arms=rates))
    assert "with stock attention," in sentences.methods(alone)
    for other in (mixed, no_attention):
        assert "with stock," in sentences.methods(other)
    pages = [
        report.render(json.loads((one.folder / "results.json").read_text()), one.folder)
        for one in (alone, no_attention)
    ]
    assert ["Attention ablation" in page["report.html"] for page in pages] == [True, False]


def test_the_methods_state_the_whole_recipe(folder):
    text = sentences.methods(facts_of(folder))
    for said in (
        "model bert from scratch, encoder, 1,000 parameters",
        "data generated ner",
        "40 steps",
        "batch size 16",
        "learning rate 5e-05 at its peak, falling linearly without warm-up",
        "seeds 1, 2 and 3",
        "device cpu",
        "torch 2.13.0",
        "attnlab reproduce toy",
    ):
        assert said in text


def test_a_recipe_names_files_without_their_folders(tmp_path):
    run = made.RUN | {
        "data": {"train": "/home/someone/words/a.conll", "validation": "/home/someone/words/b.conll"},
        "model": {"name": "/home/someone/tiny", "family": "encoder"},
    }
    config = made.config(arms={"stock": [], "other": {"set": {"model": {"name": "/home/someone/big"}}}})
    config = AblationConfig.model_validate(config.to_dict() | {"cells": {"toy": run}})
    from pipelines.ablation.recipe import of_cell

    found = of_cell(config, "toy", {}, {})
    assert (found.data, found.model) == ("a.conll, b.conll", "tiny")
    assert "someone" not in str(found)


def test_results_without_a_recipe_still_open(tmp_path):
    results = synthetic.build(tmp_path)
    texts = report.render(results, tmp_path / "report")
    assert '<h2 id="recipe-title">' not in texts["report.html"]
    assert "ner-minilm" not in recipe.paragraph(data.load(results, tmp_path / "report"))


def test_the_seeds_that_would_settle_a_row_are_those_of_plan(tmp_path):
    folder = made.reported(tmp_path, arms=("stock", "gate", "temperature"))
    facts, stored = facts_of(folder), open_ablation(folder)
    plans = {plan.arm: plan for plan in make_plans(stored.config, stored)}
    settled = set()
    for row in facts.primary:
        for share in (0.7, 0.8, 0.9):  # of what three seeds can show
            margin = round(share * row.mde80, 2)
            needed = plans[row.arm].seeds_needed(margin)
            said = settling.remedy(facts, replace(row, margin=margin, verdict="inconclusive"))
            assert said.startswith(f"{needed} seeds would" if needed else "more seeds alone cannot")
            settled.add(bool(needed))
    assert True in settled


def test_a_row_whose_interval_excludes_0_says_why_it_is_not_better(tmp_path):
    results = synthetic.build(tmp_path, arms=("gate", "sink"), metrics=("f1",))
    one, other = results["comparisons"]
    one |= {"verdict": "non-inferior", "ci95": [0.1, 0.9], "difference": 0.5, "p_holm": 0.081}
    other |= {"verdict": "inconclusive", "ci95": [-0.9, -0.1], "difference": -0.5, "p_holm": 0.081}
    texts = report.render(results, tmp_path / "report")
    for text in texts["report.html"], texts["report.md"], texts["report.tex"]:
        assert "its interval lies above 0, but p is 0.081 after Holm over 2 comparisons" in text
        assert "its interval lies below 0, but p is 0.081" in text


def test_the_headline_says_what_was_found_and_what_is_open(tmp_path):
    results = synthetic.build(tmp_path, arms=("gate", "sink"), metrics=("f1",))
    one, other = results["comparisons"]
    one |= {"verdict": "better", "difference": 1.25, "se": 0.2}
    other |= {"verdict": "inconclusive", "margin": None}
    said = headline.sentence(data.load(results, tmp_path / "report"))
    assert said.startswith("gate is better than stock (f1 ")
    assert "; these runs do not tell whether sink differs from stock" in said
    assert said.endswith("no number of seeds can be named.")
    assert all(
        said in text
        for name, text in report.render(results, tmp_path / "report").items()
        if name == "report.md"
    )


def test_time_has_the_t_interval_over_pairs_of_runs(tmp_path):
    results = synthetic.build(tmp_path, arms=("gate",), seeds=(1, 2, 3, 4))
    facts = data.load(results, tmp_path / "report")
    arm, stock = (
        np.array([run.step_seconds for run in facts.runs_of("ner-minilm", name)])
        for name in ("gate", "stock")
    )
    low, high = facts.time_interval(facts.primary[0])
    test = stats.ttest_1samp((arm - stock) / stock.mean(), 0).confidence_interval(0.95)
    assert high - low == pytest.approx(test.high - test.low)


def test_the_csv_holds_every_comparison_with_its_numbers(tmp_path):
    results = synthetic.build(tmp_path, cells=("ner-a", "qa-b"), arms=("gate", "=sink"))
    results["comparisons"][0] |= {"ci95": [float("nan")] * 2, "difference": None}
    lines = list(csv.DictReader(StringIO(report.render(results, tmp_path / "report")["results.csv"])))
    assert len(lines) == len(results["comparisons"])
    rows = {(row["cell"], row["arm"], row["metric"]): row for row in results["comparisons"]}
    for line in lines:
        row = rows[line["cell"], line["arm"].lstrip("'"), line["metric"]]
        assert line["difference"] == ("" if row["difference"] is None else repr(row["difference"]))
        assert line["arm"] in ("gate", "'=sink")
        assert line["unit"] == "points"
    page = (Path(__file__).parents[3] / "docs" / "ablations.md").read_text()
    assert [name for name in lines[0] if f"`{name}`" not in page] == []


def test_units_are_points_per_cent_or_the_measure_itself(tmp_path):
    results = synthetic.build(tmp_path, arms=("gate",), metrics=("f1", "perplexity", "bits_per_byte"))
    results["comparisons"][1] |= {"scale": "log", "higher_is_better": False}
    results["comparisons"][2] |= {"higher_is_better": False}
    units = [row.unit for row in data.load(results, tmp_path / "report").rows]
    assert units == ["points", "%", "bits per byte"]


def test_many_arms_are_a_table_and_folded_pictures(tmp_path):
    few = synthetic.build(tmp_path / "few", arms=[f"arm{n}" for n in range(3)], steps=5)
    many = synthetic.build(tmp_path / "many", arms=[f"arm{n}" for n in range(50)], steps=5)
    pages = [
        report.render(results, tmp_path / name / "report")["report.html"]
        for results, name in ((few, "few"), (many, "many"))
    ]
    assert ["each with its picture" in page for page in pages] == [False, True]
    assert ["Verdicts of arms by cell" in page for page in pages] == [False, True]
    assert all("swipe the table" in page for page in pages)
