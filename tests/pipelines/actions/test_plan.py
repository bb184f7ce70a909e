"""A plan reads the noise of finished runs, at the level that the ablation's family leaves."""

from __future__ import annotations

import json

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from pipelines.ablation.folder import open_ablation
from pipelines.actions import plan
from pipelines.cli.main import main
from tests.pipelines import stored_ablation as made


def file_of(tmp_path, **changes):
    path = tmp_path / "plan.yaml"
    values = {"cells": {"toy": made.RUN}, "arms": {"stock": [], "gate": ["gate"]}, "seeds": [1, 2, 3, 4, 5]}
    path.write_text(yaml.safe_dump(values | {"primary": {"ner": "f1"}, "margin": {"f1": 0.5}} | changes))
    return str(path)


def test_it_says_what_is_found_and_what_it_takes(tmp_path, capsys):
    pilot = made.write(tmp_path)
    assert main(["plan", file_of(tmp_path), "--pilot", str(pilot)]) == 0
    out = capsys.readouterr().out
    assert "toy / gate: f1, from 3 pilot seeds on 60 test examples" in out
    assert "with 5 seeds, as in the file" in out
    assert "is found with a power of 80 %" in out
    assert "not its effect" in out


def test_numbers_are_those_of_the_power_functions(tmp_path):
    pilot = made.write(tmp_path)
    [found] = plan.make_plans(made.config(seeds=[1, 2, 3, 4]), open_ablation(pilot))
    assert (found.num_pilot_seeds, found.num_seeds, found.num_clusters) == (3, 4, 60)
    assert found.pair_seconds == 24.0
    assert found.power(0.5) == plan.power.power(found.parts, 0.5, 4, 60, 0.05)
    assert found.parts.variance(3, 60) > 0


def test_the_level_is_shared_out_over_the_family(tmp_path):
    arms = ("stock", "gate", "temperature")
    pilot = made.write(tmp_path, arms=arms)
    plans = list(plan.make_plans(made.config(arms=arms), open_ablation(pilot)))
    assert [one.arm for one in plans] == ["gate", "temperature"]
    assert {one.level for one in plans} == {0.025}


@pytest.mark.parametrize("finished", [[], [1]])
def test_a_pilot_of_one_seed_is_no_pilot(tmp_path, capsys, finished):
    pilot = made.write(tmp_path, finished=finished)
    assert main(["plan", file_of(tmp_path), "--pilot", str(pilot)]) == 2
    assert "with 2 finished seeds" in capsys.readouterr().err


def test_two_seeds_are_enough_and_come_with_caution(tmp_path, capsys):
    pilot = made.write(tmp_path, finished=[1, 3])
    assert main(["plan", file_of(tmp_path), "margin.f1=20", "--pilot", str(pilot)]) == 0
    out = capsys.readouterr().out
    assert "from 2 pilot seeds" in out
    assert "if the pilot underestimates the variance" in out


def test_a_pilot_on_a_single_cluster_plans_nothing(tmp_path, capsys):
    pilot = made.write(tmp_path)
    for path in tmp_path.rglob("statistics.test.parquet"):
        table = pyarrow.parquet.read_table(path)
        place = table.schema.get_field_index("cluster")
        one = pyarrow.array(["one"] * len(table))
        pyarrow.parquet.write_table(table.set_column(place, "cluster", one), path)
        made.list_again(path.parent)
    assert main(["plan", file_of(tmp_path), "--pilot", str(pilot)]) == 2
    assert "toy / gate: the pilot does not show its noise: a test needs" in capsys.readouterr().err


def test_what_the_pilot_did_otherwise_is_said(tmp_path, capsys):
    pilot = made.write(tmp_path)
    changed = file_of(tmp_path, set={"learning_rate": 1e-3, "threads": 2})
    assert main(["plan", changed, "--pilot", str(pilot)]) == 0
    out = capsys.readouterr().out
    assert "note: the pilot's toy has other settings: learning_rate: 5e-05 -> 0.001\n" in out


def test_without_a_margin_there_is_no_size_to_plan_for(tmp_path, capsys):
    pilot = made.write(tmp_path)
    assert main(["plan", file_of(tmp_path, margin={}), "--pilot", str(pilot)]) == 0
    assert "no margin for f1 is declared" in capsys.readouterr().out


def test_identical_runs_give_no_plan(tmp_path, capsys):
    pilot = made.write(tmp_path)
    for seed in (1, 2, 3):
        stock, gate = (made.run_folder(pilot, arm, seed) for arm in ("stock", "gate"))
        name = "statistics.test.parquet"
        (gate / name).write_bytes((stock / name).read_bytes())
        theirs, mine = (json.loads((one / "manifest.json").read_text()) for one in (stock, gate))
        (gate / "manifest.json").write_text(json.dumps(mine | {"scores": theirs["scores"]}))
        made.list_again(gate)
    assert main(["plan", file_of(tmp_path), "--pilot", str(pilot)]) == 0
    assert "do not differ" in capsys.readouterr().out
