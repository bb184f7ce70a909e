"""Every arm searches as many settings as any other, validation chooses, and the choice is on record."""

from __future__ import annotations

import json

import pytest
import yaml

from pipelines.ablation import grid, search
from pipelines.ablation.cell import Outcome
from pipelines.ablation.folder import open_ablation
from pipelines.ablation.results import ended_ablation, results_of
from pipelines.cli.main import main
from pipelines.config.load import ablation_from_dict
from pipelines.report import data, sentences
from pipelines.storage.sealed import sealed
from tests.pipelines import stored_ablation as made

RATES = [1e-4, 1e-3, 1e-2]
SEARCH = {"search": {"learning_rate": RATES}}
BEST = {"stock": 1e-3, "gate": 1e-2}
CHOSEN = {("toy", arm): {"learning_rate": rate} for arm, rate in BEST.items()}


def searched(root, best=BEST, **options):
    """An ablation with its search done: the run at an arm's best rate scores most."""
    stated = made.config(**SEARCH, **options)
    folder = root / "toy"
    tries = grid.plan_tries(stated, folder)
    for cell in tries:
        arm, _, rate = cell.arm.partition(" at ")
        run = stated.run_config(cell.cell, arm, cell.seed, searched={"learning_rate": float(rate)})
        described = grid.identity.describe(run)
        made.finish(cell.folder, run, described, skill=0.9 if float(rate) == best[arm] else 0.3)
    return stated, folder, tries


def judged(stated, tries, **statuses):
    outcomes = {cell: Outcome(statuses.get(cell.arm.replace(" ", "_"), "finished")) for cell in tries}
    return search.judge(stated, outcomes)


def test_every_arm_has_the_same_budget(tmp_path):
    stated, _, tries = searched(tmp_path)
    by_arm = {arm: [cell for cell in tries if cell.arm.startswith(arm)] for arm in stated.arms}
    assert {arm: len(cells) for arm, cells in by_arm.items()} == {"stock": 3, "gate": 3}
    for cells in by_arm.values():
        assert [cell.config["learning_rate"] for cell in cells] == RATES
        assert {cell.seed for cell in cells} == {1}


def test_the_best_validation_score_of_each_arm_is_chosen(tmp_path):
    stated, _, tries = searched(tmp_path)
    record = judged(stated, tries)
    chosen = {arm: found["chosen"] for arm, found in record["cells"]["toy"].items()}
    assert chosen == BEST
    assert "a better rate may lie beyond" in record["cells"]["toy"]["gate"]["reason"]
    assert record["cells"]["toy"]["stock"]["reason"] == "best on validation"
    assert record["num_runs_per_arm"] == 3


def test_a_rate_that_diverged_cannot_win_and_none_left_is_said(tmp_path):
    stated, _, tries = searched(tmp_path)
    record = judged(stated, tries, **{"gate_at_0.01": "diverged"})
    assert record["cells"]["toy"]["gate"]["chosen"] != 1e-2
    lost = {f"gate_at_{rate!r}": "diverged" for rate in RATES}
    record = judged(stated, tries, **lost)
    assert record["cells"]["toy"]["gate"]["chosen"] == 1e-4
    assert "no rate finished" in record["cells"]["toy"]["gate"]["reason"]


def test_all_seeds_run_with_the_rate_of_their_arm_and_the_try_is_not_run_twice(tmp_path):
    stated, folder, tries = searched(tmp_path)
    cells = grid.plan_cells(stated, folder, chosen=CHOSEN, tries=tries)
    for cell in cells:
        assert cell.config["learning_rate"] == BEST[cell.arm]
    tried = {cell.folder for cell in tries}
    assert sorted(cell.seed for cell in cells if cell.folder in tried) == [1, 1]


def test_search_seeds_of_their_own_share_no_run_with_the_grid(tmp_path):
    stated, folder, tries = searched(tmp_path)
    apart = ablation_from_dict(stated.to_dict() | {"search": {"learning_rate": RATES, "seeds": [91, 92]}})
    tries = grid.plan_tries(apart, folder)
    cells = grid.plan_cells(apart, folder, chosen=CHOSEN, tries=tries)
    assert len(tries) == 2 * 3 * 2
    assert not {cell.folder for cell in tries} & {cell.folder for cell in cells}


@pytest.fixture
def ended(tmp_path):
    """The folder of an ablation whose search and grid have ended."""
    stated, folder, tries = searched(tmp_path)
    record = judged(stated, tries)
    cells = grid.plan_cells(stated, folder, chosen=CHOSEN, tries=tries)
    made.register(stated, folder)
    (folder / "search.json").write_text(json.dumps(sealed(record)))
    grid.remember_folders([*tries, *cells], folder)
    for cell in cells:
        if not (cell.folder / "manifest.json").exists():
            run = stated.run_config(cell.cell, cell.arm, cell.seed, searched=CHOSEN["toy", cell.arm])
            made.finish(cell.folder, run, grid.identity.describe(run))
    return folder


def test_results_and_methods_say_what_was_searched_and_chosen(ended):
    stored = open_ablation(ended)
    assert (len(stored.cells), len(stored.tries)) == (6, 6)
    assert {cell.config["learning_rate"] for cell in stored.cells if cell.arm == "gate"} == {1e-2}
    results = results_of([ended_ablation(ended)], ended)
    assert results["arms"]["toy"]["gate"]["search"]["chosen"] == 1e-2
    known = data.load(results, ended)
    assert (
        "3 runs over the learning rates 0.0001, 0.001 and 0.01; chosen: stock 0.001; gate 0.01"
        in sentences.methods(known)
    )
    assert any("a better rate may lie beyond" in alert for alert in sentences.alerts(known))
    assert main(["report", str(ended)]) == 0
    assert main(["verify", str(ended)]) == 0
    assert main(["status", str(ended)]) == 0


def test_an_ablation_that_has_lost_its_search_is_not_reported(ended, capsys):
    assert main(["report", str(ended)]) == 0
    before = (ended / "results.json").read_bytes()
    (ended / "search.json").unlink()
    for command in ("report", "verify", "status"):
        assert main([command, str(ended)]) == 2
        assert f"{ended}/search.json: is missing; the same attnlab ablate FILE" in capsys.readouterr().err
    assert (ended / "results.json").read_bytes() == before


def test_verify_names_other_scores_and_exchanged_tries(ended, capsys):
    folder = ended
    assert main(["report", str(folder)]) == 0
    record = json.loads((folder / "search.json").read_text())
    record["cells"]["toy"]["gate"]["tried"][0]["scores"] = [99.0]
    made.forge(folder / "search.json", record)
    assert main(["verify", str(folder)]) == 1
    assert "search.json: cells.toy.gate.tried[0].scores[0]: 99.0 -> " in capsys.readouterr().out
    names = json.loads((folder / "runs.json").read_text())
    one, other = "toy/gate at 0.001/1", "toy/stock at 0.01/1"
    (folder / "runs.json").write_text(json.dumps(names | {one: names[other], other: names[one]}))
    assert main(["verify", str(folder)]) == 1
    assert "toy / gate at 0.001 / seed 1: is not the run of ablation.yaml: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"search": {"learning_rate": [1e-3]}}, "search.learning_rate"),
        ({"search": {"learning_rate": [1e-3, 1e-3]}}, "twice"),
        (
            {"arms": {"stock": [], "x": {"attention": ["gate"], "set": {"learning_rate": 1e-2}}}},
            "search decides",
        ),
    ],
)
def test_a_search_that_would_not_be_fair_or_is_none_is_refused(tmp_path, capsys, changes, said):
    path = tmp_path / "a.yaml"
    values = {"cells": {"toy": made.RUN}, "arms": {"stock": [], "gate": ["gate"]}, "seeds": [1]} | SEARCH
    path.write_text(yaml.safe_dump(values | changes))
    assert main(["validate", str(path)]) == 2
    assert said in capsys.readouterr().err


def test_the_search_is_part_of_what_is_registered():
    with_one, without = made.config(**SEARCH), made.config()
    from pipelines.ablation.declaration import declare

    assert declare(with_one)["search"]["learning_rate"] == RATES
    assert "search" not in declare(without)


def test_dry_run_lists_tries_first_and_the_grid_once_rates_are_known(tmp_path, capsys):
    stated, folder, tries = searched(tmp_path)
    path = tmp_path / "a.yaml"
    values = {
        "cells": {"toy": made.RUN},
        "arms": {"stock": [], "gate": ["gate"]},
        "seeds": [1, 2, 3],
    } | SEARCH
    path.write_text(yaml.safe_dump(values))
    assert main(["ablate", str(path), "--out", str(folder), "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert said.count("stock at") == 3
    assert "6 runs, 0 to run" in said
    folder.mkdir(exist_ok=True)
    (folder / "search.json").write_text(json.dumps(judged(stated, tries)))
    assert main(["ablate", str(path), "--out", str(folder), "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "10 runs, 4 to run" in said
    assert "about 12 s" in said
    assert "time: about" in said
