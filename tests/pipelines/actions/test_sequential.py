"""A sequential ablation adds seeds until its comparisons are settled or the most is reached."""

from __future__ import annotations

import json

import pytest
import yaml

from pipelines.ablation.cell import Outcome
from pipelines.ablation.preregistration import deviations, read_registration
from pipelines.ablation.results import ended_ablation
from pipelines.actions import ablate
from pipelines.actions.status import status_command
from pipelines.config.load import load_ablation, run_from_dict
from pipelines.errors import RunFailed, UserError
from pipelines.runs import identity
from tests.pipelines import stored_ablation as made


class Runs:
    """An executor that writes finished runs; an arm has the skill of its name."""

    at_a_time = 1
    when_stopped = ""

    def __init__(self, skills, failing=()):
        self.skills, self.failing, self.made = skills, failing, []

    def run(self, cells, *, stop, on_outcome):
        for cell in cells:
            self.made.append((cell.arm, cell.seed))
            if cell.seed in self.failing:
                on_outcome(cell, Outcome("failed", "no memory"))
                continue
            run = run_from_dict(cell.config)
            made.finish(cell.folder, run, identity.describe(run), skill=self.skills[cell.arm])
            on_outcome(cell, Outcome("finished"))


def ablated(monkeypatch, tmp_path, skills, *, failing=(), most=8, **options):
    runs = Runs(skills, failing)
    monkeypatch.setattr(ablate, "executor_of", lambda *_, **__: runs)
    config = made.config(stopping={"most_seeds": most}, **{"margin": {}} | options)
    ablate.ablate_command(config, str(tmp_path / "toy"))
    return runs, json.loads((tmp_path / "toy" / "results.json").read_text())


def test_it_stops_where_every_comparison_is_settled(monkeypatch, tmp_path, capsys):
    runs, results = ablated(monkeypatch, tmp_path, {"stock": 0.7, "gate": 0.3}, seeds=(4, 7))
    [row] = results["comparisons"]
    assert row["verdict"] == "usually worse"
    assert row["seeds"][:4] == [4, 7, 8, 9]  # two declared, then the next numbers
    assert 3 <= len(row["seeds"]) < 8
    assert [seed for arm, seed in runs.made if arm == "gate"] == row["seeds"]
    assert [look["seeds"] for look in row["looks"]] == list(range(3, len(row["seeds"]) + 1))
    assert row["looks"][-1]["interval"] == row["ci95"]
    assert "2 of at most 8" not in json.dumps(results)
    page = (tmp_path / "toy" / "report.html").read_text()
    assert "gate on toy: interval after each seed" in page
    capsys.readouterr()
    status_command(str(tmp_path / "toy"))
    shown = [line for line in capsys.readouterr().out.splitlines() if "●" in line]
    assert len(shown) == len(row["looks"])
    assert all("│" in line for line in shown)
    assert shown[0].startswith("    3 seeds")


def test_it_stops_at_the_most_where_nothing_is_settled(monkeypatch, tmp_path, capsys):
    _, results = ablated(monkeypatch, tmp_path, {"stock": 0.6, "gate": 0.6}, most=5)
    [row] = results["comparisons"]
    assert row["verdict"] == "inconclusive"
    assert row["seeds"] == [1, 2, 3, 4, 5]
    assert "5 of at most 5 seeds: 0 of 1 comparisons settled" in capsys.readouterr().err


def test_started_again_it_runs_nothing_and_its_seeds_are_no_change(monkeypatch, tmp_path):
    _, first = ablated(monkeypatch, tmp_path, {"stock": 0.6, "gate": 0.6}, most=5)
    again, results = ablated(monkeypatch, tmp_path, {"stock": 0.6, "gate": 0.6}, most=5)
    assert again.made == []
    assert results["comparisons"] == first["comparisons"]
    folder = tmp_path / "toy"
    declared = read_registration(folder)["declared"]
    assert (declared["seeds"], declared["stopping_rule"]) == ([1, 2, 3], "sequential, at most 5 seeds")
    ended = ended_ablation(folder)
    assert deviations(read_registration(folder), ended.config, ended.runs) == []


def test_a_failed_run_ends_it(monkeypatch, tmp_path):
    with pytest.raises(RunFailed, match="2 runs failed"):
        ablated(monkeypatch, tmp_path, {"stock": 0.6, "gate": 0.6}, failing=(4,))
    seeds = yaml.safe_load((tmp_path / "toy" / "ablation.yaml").read_text())["seeds"]
    assert seeds == [1, 2, 3, 4]
    runs, results = ablated(monkeypatch, tmp_path, {"stock": 0.8, "gate": 0.2})  # the same command goes on
    assert ("gate", 4) in runs.made
    assert results["comparisons"][0]["verdict"] == "usually worse"


def test_fewer_seeds_than_those_named_are_refused(tmp_path):
    file = tmp_path / "a.yaml"
    run = "{task: ner, data: {generated: {name: ner, train: 9, validation: 9}}, "
    run += "model: {architecture: bert, family: encoder}}"
    text = f"cells: {{toy: [{run}]}}\narms: {{stock: [], gate: [gate]}}\nseeds: [1, 2, 3, 4, 5]\nstopping:\n"
    file.write_text(text + "  most_seeds: 4\n")
    with pytest.raises(UserError, match=r"a.yaml:5: most_seeds is less than the 5 seeds"):
        load_ablation(str(file))
    file.write_text(text + "  most_seeds: 12\n")
    assert load_ablation(str(file)).stopping.rule == "sequential"


def test_an_assay_is_an_arm_and_names_one(tmp_path):
    file = tmp_path / "a.yaml"
    run = "{task: ner, data: {generated: {name: ner, train: 9, validation: 9}}, "
    run += "model: {architecture: bert, family: encoder}}"
    text = f"cells: {{toy: [{run}]}}\narms: {{stock: [], gate: [gate]}}\nseeds: [1, 2, 3]\n"
    file.write_text(text + "assay: {set: {learning_rate: 1e-6}}\n")
    config = load_ablation(str(file))
    assert (config.assay, config.compared, list(config.arms)) == (
        "assay",
        ("gate",),
        ["stock", "gate", "assay"],
    )
    file.write_text(text + "assay: stock\n")
    with pytest.raises(UserError, match=r"a.yaml:4: the assay 'stock' is the baseline; arms: gate"):
        load_ablation(str(file))
    file.write_text(text + "assay: {attention: [nosuch]}\n")
    with pytest.raises(UserError, match=r"a.yaml:4.*nosuch"):
        load_ablation(str(file))


def test_the_report_says_how_it_stopped_and_what_was_planted(monkeypatch, tmp_path):
    skills = {"stock": 0.7, "gate": 0.7, "assay": 0.2}
    arms = {"stock": [], "gate": ["gate"], "assay": {"set": {"learning_rate": 1e-6}}}
    finish = made.finish

    def by_arm(path, run, described, *, skill):
        finish(path, run, described, skill=0.2 if run.learning_rate == 1e-6 else skill)

    monkeypatch.setattr(made, "finish", by_arm)
    _, results = ablated(monkeypatch, tmp_path, skills, most=4, arms=arms, assay="assay", margin={"f1": 40})
    gate, planted = results["comparisons"]
    assert (gate["verdict"], planted["planted"], planted["primary"]) == ("equivalent", True, False)
    text = " ".join((tmp_path / "toy" / "report.md").read_text().split())
    assert "We compared gate with" in text
    assert "assay was planted to be worse" in text
    assert "hold at all looks together" in text
    assert "**assay**: planted harm, found on toy" in text


def test_each_look_is_computed_once_the_last_for_the_report_too(monkeypatch, tmp_path):
    computed, compute = [], ablate.results.results_of
    monkeypatch.setattr(
        ablate.results, "results_of", lambda *inputs: computed.append(inputs) or compute(*inputs)
    )
    _, results = ablated(monkeypatch, tmp_path, {"stock": 0.6, "gate": 0.6}, most=4)
    assert results["comparisons"][0]["seeds"] == [1, 2, 3, 4]
    assert len(computed) == 2  # after 3 and after 4 seeds
