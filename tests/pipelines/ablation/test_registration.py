"""What was declared before the first run is held against what was run, and a change is told in its rows."""

from __future__ import annotations

import csv
import json
import tarfile
from itertools import product
from pathlib import Path

import pytest

from pipelines.ablation import declaration, grid
from pipelines.ablation.preregistration import read_registration, register, seal
from pipelines.cli.main import main
from pipelines.comparison.results import CHANGED
from pipelines.config.load import ablation_from_dict
from pipelines.runs import identity
from tests.pipelines import stored_ablation as made
from tests.pipelines.ablation.test_folders_of_0_1 import ARCHIVE

BEFORE = {"max_steps": None, "num_epochs": 3, "learning_rate": 3e-4}
OTHER_DATA = {"generated": {"name": "ner", "train": 30, "validation": 20, "test": 24}}


def rows(folder: Path) -> list[dict]:
    return json.loads((folder / "results.json").read_text())["comparisons"]


def told(folder: Path) -> str:
    return "; ".join(json.loads((folder / "results.json").read_text())["registration"]["changed_afterwards"])


def verified(folder: Path, capsys) -> tuple[int, str]:
    status = main(["verify", str(folder)])
    return status, capsys.readouterr().out


# ---- changed after the results
CHANGES = {
    "data": ({"run": {"data": OTHER_DATA}}, "data.generated.test of toy: 60 -> 24"),
    "epochs": ({"run": {"max_steps": None, "num_epochs": 1}}, "num_epochs of toy: 3 -> 1"),
    "rate of an arm": (
        {"arms": {"stock": [], "gate": {"attention": ["gate"], "set": {"learning_rate": 2.9e-3}}}},
        "learning_rate of toy / gate: 0.0003 -> 0.0029",
    ),
    "attention of an arm": ({"arms": {"stock": [], "gate": ["temperature"]}}, "attention of toy / gate: "),
    "seeds of an arm": (
        {"arms": {"stock": [], "gate": {"attention": ["gate"], "seed_offset": 40}}},
        "seed_offset of toy / gate: 0 -> 40",
    ),
    "margin": ({"margin": {"f1": 3.0}}, "margin.f1: 0.5 -> 3"),
    "seeds": ({"seeds": [1, 2, 3, 4]}, "seeds: [1, 2, 3] -> [1, 2, 3, 4]"),
    "a dropped arm": ({"arms": ["stock", "gate"]}, 'arms: ["gate", "stock", "temperature"] -> '),
    "a dropped seed": ({"seeds": [1, 3]}, "seeds: [1, 2, 3] -> [1, 3]"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_after_the_results_is_told_with_what_it_was_in_every_format(tmp_path, capsys, change):
    arms = ["stock", "gate", "temperature"] if "dropped arm" in change else ["stock", "gate"]
    folder = made.write(tmp_path, arms=arms, run=BEFORE)
    options, sentence = CHANGES[change]
    made.write(tmp_path, **(options | {"run": BEFORE | options.get("run", {})}))
    assert main(["report", str(folder)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert sentence in told(folder)
    assert "unchanged since" not in printed
    assert all(row["verdict"].endswith(f", {CHANGED}") for row in rows(folder) if row["arm"] == "gate")
    for name in ("report.md", "report.html", "report.tex", "results.csv", "forest.svg"):
        assert CHANGED in (folder / name).read_text(), name
    assert CHANGED in printed.rpartition("In short: ")[2]
    lines = csv.DictReader((folder / "results.csv").read_text().splitlines())
    assert all(CHANGED in line["verdict"] for line in lines if line["arm"] == "gate")
    status, out = verified(folder, capsys)
    assert status == 1
    assert f"registration.json: {CHANGED}: {sentence}" in out


def test_a_change_is_told_in_the_rows_that_rest_on_it_only(tmp_path):
    arms = {"stock": [], "gate": ["gate"], "temperature": ["temperature"]}
    folder = made.write(tmp_path, arms=arms, cells=["one", "two"])
    changed = arms | {"gate": {"attention": ["gate"], "set": {"learning_rate": 1e-3}}}
    made.write(tmp_path, arms=changed, cells=["one", "two"])
    assert main(["report", str(folder)]) == 0
    assert {row["arm"] for row in rows(folder) if row["verdict"].endswith(CHANGED)} == {"gate"}
    made.write(tmp_path, arms=arms | {"stock": {"set": {"learning_rate": 1e-3}}}, cells=["one", "two"])
    assert main(["report", str(folder)]) == 0
    assert all(row["verdict"].endswith(CHANGED) for row in rows(folder))


def test_an_arm_or_a_cell_that_is_added_is_marked_and_the_others_are_not(tmp_path):
    folder = made.write(tmp_path)
    made.write(tmp_path, arms=["stock", "gate", "temperature"], cells=["toy", "more"])
    assert main(["report", str(folder)]) == 0
    marked = {(row["cell"], row["arm"]): CHANGED in row["verdict"] for row in rows(folder)}
    both = list(product(("toy", "more"), ("gate", "temperature")))
    assert marked == {one: one != ("toy", "gate") for one in both}


def test_nothing_changed_is_told_as_that(tmp_path, capsys):
    folder = made.write(tmp_path)
    assert main(["report", str(folder)]) == 0
    assert "with settings, data, metric signatures and source files; unchanged since" in " ".join(
        capsys.readouterr().out.split()
    )
    assert CHANGED not in (folder / "results.json").read_text()
    assert verified(folder, capsys)[0] == 0


def test_files_are_declared_by_their_content(tmp_path):
    table = tmp_path / "rows.csv"
    table.write_text("text,label\ngood,1\nbad,0\n")
    model = {"architecture": "bert", "family": "encoder"}
    run = {"task": "text_classification", "data": {"train": str(table), "test": str(table)}, "model": model}
    values = {"cells": {"mood": run}, "arms": {"stock": {}, "gate": {"attention": ["gate"]}}, "seeds": [1, 2]}
    stated = ablation_from_dict(values)
    declared = json.loads(json.dumps(declaration.declare(stated)))
    assert declared["settings"]["mood"]["gate"]["data"]["test"] == identity.content_of(str(table))
    assert str(tmp_path) not in json.dumps(declared)
    assert declaration.deviations(declared, stated, []) == []


def test_other_source_files_of_a_run_are_a_change(tmp_path, capsys):
    folder = made.write(tmp_path)
    register_again = json.loads((folder / "registration.json").read_text())
    name = "custom_attention.variants.gate"
    register_again["declared"]["sources"][name] = "0" * 64
    register_again["hash"] = declaration.digest(register_again["declared"])
    made.forge(folder / "registration.json", register_again)
    assert main(["report", str(folder)]) == 0
    assert f"source of {name} of toy / gate: " in told(folder)


def test_the_signatures_that_a_task_declares_are_those_of_its_runs(tmp_path, capsys):
    folder = made.write(tmp_path)
    declared = read_registration(folder)["declared"]["metrics"]["toy"]
    manifest = json.loads((made.run_folder(folder, "gate", 1) / "manifest.json").read_text())
    assert declared["f1"] == manifest["metrics"]["f1"]["signature"]
    for arm in ("stock", "gate"):
        for seed in (1, 2, 3):
            path = made.run_folder(folder, arm, seed) / "manifest.json"
            other = path.read_text().replace("seqeval|version:", "seqeval|version:9")
            made.forge(path, json.loads(other))
    assert main(["report", str(folder)]) == 0
    assert "signature of f1 of toy: seqeval|version:" in told(folder)


def test_what_only_the_data_decides_is_no_change_of_a_signature():
    before = declaration._without_data("scikit-learn|version:1|f1|average:macro|labels:0|zero_division:0")
    now = declaration._without_data("scikit-learn|version:1|f1|average:macro|labels:7|zero_division:0")
    assert before == now
    assert "labels" not in before


# ---- runs that were there before
def chained(folder: Path, arms=("stock", "gate"), seeds=(1, 2, 3)) -> None:
    """Say in the manifests of an ablation's runs that they were trained under its registration."""
    digest = seal(read_registration(folder))
    for arm in arms:
        for seed in seeds:
            path = made.run_folder(folder, arm, seed) / "manifest.json"
            made.forge(path, json.loads(path.read_text()) | {"registration": digest})


def fresh_copy(root: Path, first: Path) -> Path:
    """An ablation in a new folder, of the same arms, all made again as --fresh does."""
    stated, folder = made.config(), root / "again"
    cells = grid.plan_cells(stated, folder, fresh=True)
    register(stated, folder, fresh=True)
    grid.remember_folders(cells, folder)
    for cell in cells:
        run = stated.run_config(cell.cell, cell.arm, cell.seed)
        made.finish(cell.folder, run, identity.describe(run))
    chained(folder)
    return folder


def test_a_fresh_copy_counts_the_runs_beside_it_and_does_not_verify(tmp_path, capsys):
    first = made.reported(tmp_path)
    chained(first)
    again = fresh_copy(tmp_path, first)
    assert main(["report", str(again)]) == 0
    assert "3 runs of these arms existed before" in " ".join(capsys.readouterr().out.split())
    assert "3 runs of these arms existed before" in (again / "report.md").read_text()
    assert json.loads((again / "results.json").read_text())["registration"]["finished_before"]["gate"] == 3
    status, out = verified(again, capsys)
    assert status == 1
    assert "registration.json: toy / gate / seed 1 existed before it and was made again" in out
    assert verified(first, capsys)[0] == 0


def test_a_copy_under_another_name_is_counted_too(tmp_path):
    first = made.write(tmp_path)
    path = made.run_folder(first, "gate", 2)
    path.rename(path.parent / "elsewhere")
    again = fresh_copy(tmp_path, first)
    assert read_registration(again)["finished_before"] == {"stock": 3, "gate": 3}


def test_runs_that_two_ablations_share_are_counted_and_verify(tmp_path, capsys):
    first = made.write(tmp_path)
    chained(first)
    second = tmp_path / "second"
    register(made.config(), second)
    (second / "runs.json").write_text((first / "runs.json").read_text())
    assert main(["report", str(second)]) == 0
    assert "3 runs of these arms existed before" in (second / "report.md").read_text()
    assert verified(second, capsys)[0] == 0


def test_all_runs_made_again_after_results_are_a_change(tmp_path, capsys):
    folder = made.write(tmp_path)
    register(made.config(), folder, fresh=True)
    assert main(["report", str(folder)]) == 0
    assert "runs made again with --fresh" in told(folder)
    assert rows(folder)[0]["verdict"].endswith(CHANGED)
    assert verified(folder, capsys)[0] == 1


def test_a_registration_that_was_written_after_its_runs_is_found(tmp_path, capsys):
    """An arm dropped from ablation.yaml, runs.json and the registration, whose digest is computed again."""
    arms = ["stock", "gate", "temperature"]
    folder = made.write(tmp_path, arms=arms)
    chained(folder, arms)
    stored = json.loads((folder / "registration.json").read_text())
    names = json.loads((folder / "runs.json").read_text())
    stated = made.config()
    stored["declared"] = declaration.declare(stated)
    stored["hash"] = declaration.digest(stored["declared"])
    made.forge(folder / "registration.json", stored)
    register(stated, folder)
    kept = {label: name for label, name in names.items() if "/temperature/" not in label}
    (folder / "runs.json").write_text(json.dumps(kept))
    assert main(["report", str(folder)]) == 0
    status, out = verified(folder, capsys)
    assert status == 1
    assert "toy / gate / seed 1 was trained under another registration" in out


@pytest.mark.parametrize(
    "forge",
    [
        lambda stored: stored["declared"]["margin"].update(f1=3.0),
        lambda stored: stored.update(time="2026-11-20T08:00:00+00:00"),
        lambda stored: stored.update(finished_before={}, finished_runs=[]),
        lambda stored: [stored["declared"].pop(name) for name in declaration.RUNS],
        lambda stored: [stored.pop(name) for name in ("finished_runs", "name")],
    ],
    ids=["margin", "two days back", "no runs before", "as 0.1 declared", "as 0.1 registered"],
)
def test_a_registration_that_was_rewritten_with_its_digest_is_found(tmp_path, capsys, forge):
    other = made.write(tmp_path, "other", arms=["stock", "temperature"])
    chained(other, ["stock", "temperature"])
    folder = made.write(tmp_path, finished=[])
    for label, name in json.loads((folder / "runs.json").read_text()).items():
        _, arm, seed = label.split("/")
        run = made.config().run_config("toy", arm, int(seed))
        if arm == "gate":
            made.finish(tmp_path / "cells" / name, run, identity.describe(run))
    chained(folder, ["gate"])
    assert main(["report", str(folder)]) == 0
    assert verified(folder, capsys)[0] == 0
    path = folder / "registration.json"
    stored = json.loads(path.read_text())
    forge(stored)
    made.forge(path, stored | {"hash": declaration.digest(stored["declared"])})
    assert main(["report", str(folder)]) == 0
    status, out = verified(folder, capsys)
    assert status == 1
    assert "toy / gate / seed 1 was trained under another registration" in out


# ---- registrations of 0.1
def test_a_registration_of_0_1_opens_and_says_that_it_declares_less(tmp_path, capsys):
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, **safely)
    folder = tmp_path / "runs" / "small"
    status, out = verified(folder, capsys)
    assert (status, out.count("other rules gave its p values")) == (1, 1)
    assert "attnlab 0.1 declared no settings, data or sources, so none is compared" in out
    assert main(["report", str(folder)]) == 0
    assert "(attnlab 0.1 declared less); unchanged since" in (folder / "report.md").read_text()
    assert verified(folder, capsys)[0] == 0


def test_results_of_0_1_with_a_changed_registration_are_what_0_1_wrote(tmp_path, capsys):
    folder = made.write(tmp_path)
    path = folder / "registration.json"
    stored = json.loads(path.read_text())
    for name in declaration.RUNS:
        del stored["declared"][name]
    stored["declared"]["seeds"] = [1, 2]
    stored["hash"] = declaration.digest(stored["declared"])
    made.forge(path, stored)
    assert main(["report", str(folder)]) == 0
    results = json.loads((folder / "results.json").read_text())
    del results["recipe"]
    results["registration"]["changed_afterwards"] = ["seeds"]
    for row in results["comparisons"]:
        row |= {"verdict": row["verdict"].removesuffix(f", {CHANGED}"), "flags": row["flags"][:-1]}
    (folder / "results.json").write_text(json.dumps(results))
    for name in ("reports.json", "report.html"):
        (folder / name).unlink()
    status, out = verified(folder, capsys)
    assert "results.json: comparisons" not in out
    assert (status, "seeds: [1, 2] -> [1, 2, 3]" in out) == (1, True)
