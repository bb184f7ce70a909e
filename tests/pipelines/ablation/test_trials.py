"""A search of a variant's own settings: as many tries for every arm; the choice is applied and told."""

from __future__ import annotations

import json

import pytest
import yaml

from custom_attention import attach, registry, variant_parameters
from pipelines.ablation import grid, search
from pipelines.ablation.cell import Outcome
from pipelines.ablation.declaration import declare, deviations
from pipelines.ablation.folder import open_ablation
from pipelines.ablation.results import ended_ablation, results_of
from pipelines.ablation.trials import closer, name_of_try, trials
from pipelines.cli.main import main
from pipelines.config.load import ablation_from_dict
from pipelines.registry.catalog import VARIANT, find
from pipelines.report import data, sentences
from tests.custom_attention.conftest import SELF_ONLY, own_names
from tests.custom_attention.models import tiny
from tests.pipelines import stored_ablation as made

ARMS = ("stock", "hidden_gate", "temperature", "unscaled")
SEARCH = {
    "variant_learning_rate": [1e-1, 1e-3, 1e-2],
    "options": {"hidden_gate.start": ["zero", "paper"], "temperature.per": ["layer", "head"]},
}
BEST = {
    "stock": {"learning_rate": 1e-4},
    "hidden_gate": {"variant_learning_rate": 1e-2, "hidden_gate.start": "paper"},
    "temperature": {"variant_learning_rate": 1e-1, "temperature.per": "layer"},
    "unscaled": {"learning_rate": 2e-4},
}


def stated(**changes):
    return made.config(arms=ARMS, **{"search": SEARCH} | changes)


def fits(setting, best):
    return all(setting[name] == value for name, value in best.items())


@pytest.fixture
def ended(tmp_path):
    """The folder of an ablation whose search and grid have ended; the best setting of an arm scores most."""
    config, folder = stated(run={"learning_rate": 2e-4}), tmp_path / "toy"
    tries = grid.plan_tries(config, folder)
    for cell in tries:
        [setting] = [
            one
            for one in trials(config, cell.cell, cell.arm_in_grid)
            if name_of_try(cell.arm_in_grid, one) == cell.arm
        ]
        run = config.run_config(cell.cell, cell.arm_in_grid, cell.seed, searched=setting)
        skill = 0.9 if fits(setting, BEST[cell.arm_in_grid]) else 0.3
        made.finish(cell.folder, run, grid.identity.describe(run), skill=skill)
    record = search.judge(config, {cell: Outcome("finished") for cell in tries})
    chosen = search.chosen_settings(record)
    cells = grid.plan_cells(config, folder, chosen=chosen, tries=tries)
    made.register(config, folder)
    made.forge(folder / "search.json", record)
    grid.remember_folders([*tries, *cells], folder)
    for cell in cells:
        if not (cell.folder / "manifest.json").exists():
            run = config.run_config(cell.cell, cell.arm, cell.seed, searched=chosen[cell.cell, cell.arm])
            made.finish(cell.folder, run, grid.identity.describe(run))
    return folder


def test_every_arm_tries_as_many_settings_and_all_different():
    config = stated()
    tried = {arm: trials(config, "toy", arm) for arm in ARMS}
    assert {arm: len(settings) for arm, settings in tried.items()} == dict.fromkeys(ARMS, 6)
    for arm, settings in tried.items():
        assert len({name_of_try(arm, setting) for setting in settings}) == 6
    assert {setting["variant_learning_rate"] for setting in tried["hidden_gate"]} == {1e-3, 1e-2, 1e-1}
    assert {setting["hidden_gate.start"] for setting in tried["hidden_gate"]} == {"zero", "paper"}
    for arm in ("stock", "unscaled"):  # neither has parameters of a variant
        assert all(setting.keys() == {"learning_rate"} for setting in tried[arm])


def test_a_learning_rate_is_combined_with_what_else_is_searched():
    config = stated(search={"learning_rate": [1e-3, 1e-4], "variant_learning_rate": [1e-2, 1e-1]})
    pairs = [
        (one["learning_rate"], one["variant_learning_rate"]) for one in trials(config, "toy", "temperature")
    ]
    assert pairs == [(1e-4, 1e-2), (1e-4, 1e-1), (1e-3, 1e-2), (1e-3, 1e-1)]
    assert [one["learning_rate"] for one in trials(config, "toy", "stock")] == [1e-4, 3.16e-4, 5.62e-4, 1e-3]


@pytest.mark.parametrize(
    ("rates", "count", "expected"),
    [
        ([3e-4], 1, [3e-4]),
        ([1e-3], 2, [2.5e-4, 1e-3, 4e-3]),
        ([1e-3], 5, [2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3]),
        ([1e-2, 1e-4], 2, [1e-4, 1e-2]),
        ([1e-2, 1e-4], 3, [1e-4, 1e-3, 1e-2]),
        ([1e-4, 1e-3, 1e-1], 4, [1e-4, 1e-3, 1e-2, 1e-1]),
    ],
)
def test_further_rates_halve_the_widest_gap(rates, count, expected):
    assert closer(rates, count) == pytest.approx(expected)


def test_an_arm_whose_variant_is_frozen_has_no_rate_of_its_own():
    arms = {"stock": [], "gate": ["gate"], "frozen": {"attention": ["gate"], "set": {"train_variant": False}}}
    config = made.config(arms=arms, search={"variant_learning_rate": [1e-3, 1e-2, 1e-1]})
    assert all(setting.keys() == {"learning_rate"} for setting in trials(config, "toy", "frozen"))
    assert len(trials(config, "toy", "frozen")) == len(trials(config, "toy", "gate")) == 3


@pytest.mark.parametrize("name", own_names())
def test_the_catalog_knows_which_variants_have_parameters(name):
    family = "t5" if name == "constant_scale" else "bert"
    where = {"kind": "self"} if name in SELF_ONLY else None
    model = attach(tiny(family), {name: {"of": "root_dim"} if name == "constant_scale" else {}}, where=where)
    assert find(VARIANT, name).has_parameters == bool(variant_parameters(model)), registry.find(name)


def test_the_best_setting_of_each_arm_is_chosen_and_its_runs_have_it(ended):
    stored = open_ablation(ended)
    assert (len(stored.tries), len(stored.cells)) == (24, 12)
    record = json.loads((ended / "search.json").read_text())
    assert record["num_runs_per_arm"] == 6
    found = {arm: search.setting_of(choice) for arm, choice in record["cells"]["toy"].items()}
    assert all(fits(found[arm], BEST[arm]) for arm in ("hidden_gate", "temperature", "unscaled"))
    for cell in stored.cells:
        attention = cell.config["attention"]
        if cell.arm == "hidden_gate":
            assert attention == [{"hidden_gate": {"start": "paper"}}]
            assert (cell.config["learning_rate"], cell.config["variant_learning_rate"]) == (2e-4, 1e-2)
        if cell.arm == "temperature":
            assert attention == [{"temperature": {"per": "layer"}}]
            assert cell.config["variant_learning_rate"] == 1e-1


def test_the_edge_is_told_for_the_numbers_that_lie_on_it(ended):
    arms = json.loads((ended / "search.json").read_text())["cells"]["toy"]
    assert arms["hidden_gate"]["reason"] == "best on validation"
    assert arms["temperature"]["reason"].endswith("a better rate may lie beyond (variant_learning_rate)")


def test_results_methods_and_recipe_say_what_was_tried_and_chosen(ended):
    results = results_of([ended_ablation(ended)], ended)
    assert results["arms"]["toy"]["hidden_gate"]["search"]["settings"] == BEST["hidden_gate"]
    changes = results["recipe"]["toy"]["arms"]["hidden_gate"]["changes"]
    assert ("attention", [{"hidden_gate": {"start": "paper"}}]) in [
        (one["setting"], one["arm"]) for one in changes
    ]
    assert ("variant_learning_rate", 1e-2) in [(one["setting"], one["arm"]) for one in changes]
    text = sentences.methods(data.load(results, ended))
    assert "Every arm was given a search of at least 6 runs on validation data: " in text
    assert (
        "hidden_gate: 6 runs over learning rates 0.0002 x variant learning rates 0.001, 0.01 and 0.1 x "
        "hidden_gate.start zero and paper, chosen learning rate 0.0002, variant learning rate 0.01, "
        "hidden_gate.start paper" in text
    )


def test_report_verify_and_status_read_it_and_a_forged_choice_is_found(ended, capsys):
    for command in ("report", "verify", "status"):
        assert main([command, str(ended)]) == 0
    capsys.readouterr()
    record = json.loads((ended / "search.json").read_text())
    record["cells"]["toy"]["temperature"]["tried"][0]["scores"] = [99.0]
    made.forge(ended / "search.json", record)
    assert main(["verify", str(ended)]) == 1
    assert "search.json: cells.toy.temperature.tried[0].scores[0]" in capsys.readouterr().out


def test_what_the_search_chooses_is_no_deviation_and_another_option_is(ended):
    stored = open_ablation(ended)
    declared = declare(stored.config)
    assert declared["settings"]["toy"]["temperature"]["attention"] == ["temperature"]
    assert deviations(declared, stored.config, [*stored.tries, *stored.cells]) == []
    forged = json.loads(json.dumps(declared))
    forged["settings"]["toy"]["temperature"]["variant_weight_decay"] = 0.5
    assert [str(one) for one in deviations(forged, stored.config, stored.cells)] == [
        "variant_weight_decay of toy / temperature: 0.5 -> 0"
    ]


def test_a_search_of_learning_rates_alone_is_stored_as_before():
    config = made.config(search={"learning_rate": [1e-4, 1e-3]})
    assert config.to_dict()["search"] == {"learning_rate": [1e-4, 1e-3], "seeds": None}
    again = ablation_from_dict(stated().to_dict())
    assert again == stated()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"search": {"seeds": [1]}}, "names nothing to try"),
        ({"search": {"options": {"gain.per": ["head", "channel"]}}}, "no arm has a variant 'gain'"),
        (
            {"search": {"options": {"gate.begin": ["zero", "small"]}}},
            "unknown option 'begin' of variant gate",
        ),
        ({"search": {"options": {"gate.start": ["zero", "warm"]}}}, "'warm'"),
        (
            {"search": {"options": {"gate.start": ["zero", "zero"]}}},
            "a value of gate.start is in the list twice",
        ),
        ({"search": {"options": {"gate.start": ["zero"]}}}, "search.options"),
        ({"search": {"options": {"start": ["zero", "small"]}}}, "names no variant; write VARIANT.OPTION"),
        (
            {"arms": {"stock": [], "gate": [{"gate": {"start": "small"}}]}},
            "search decides gate.start",
        ),
        (
            {"arms": {"stock": [], "gate": {"attention": ["gate"], "set": {"variant_learning_rate": 1e-2}}}},
            "search decides the variant learning rate",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused_with_its_line(tmp_path, capsys, changes, said):
    path = tmp_path / "a.yaml"
    search = {"options": {"gate.start": ["zero", "small"]}, "variant_learning_rate": [1e-3, 1e-2]}
    values = {
        "cells": {"toy": made.RUN},
        "arms": {"stock": [], "gate": ["gate"]},
        "seeds": [1],
        "search": search,
    }
    path.write_text(yaml.safe_dump(values | changes))
    assert main(["validate", str(path)]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "a.yaml:" in told


def test_validate_tells_the_search(tmp_path, capsys):
    path = tmp_path / "a.yaml"
    search = {"options": {"gate.start": ["zero", "small"]}, "variant_learning_rate": [1e-3, 1e-2]}
    path.write_text(
        yaml.safe_dump(
            {
                "cells": {"toy": made.RUN},
                "arms": {"stock": [], "gate": ["gate"]},
                "seeds": [1],
                "search": search,
            }
        )
    )
    assert main(["validate", str(path)]) == 0
    assert "gate.start zero, small for every arm; an arm that lacks one tries more" in capsys.readouterr().out
