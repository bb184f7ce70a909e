"""Forged records, every hash made again: they contradict the log, each other, or the registration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.ablation import chain, declaration, ledger, looks
from pipelines.ablation.folder import open_ablation
from pipelines.ablation.preregistration import read_registration, register, seal, seals
from pipelines.actions import replay
from pipelines.actions.reproduce import DIFFERENT, EQUAL, compare_runs
from pipelines.actions.verify import run_differences
from pipelines.cli.main import main
from pipelines.comparison.scored_cell import ScoredCell
from pipelines.comparison.scored_run import read
from pipelines.config.load import AblationConfig
from pipelines.errors import UserError
from pipelines.metrics.load import load
from pipelines.runs import identity
from tests.pipelines import stored_ablation as made


def forge(run: Path, **changes) -> None:
    """Change entries of a manifest, and make its hashes again."""
    made.forge(run / "manifest.json", json.loads((run / "manifest.json").read_text()) | changes)
    made.list_again(run)


# ---- a manifest against its log
FORGED = {
    "the best step": ({"best_step": 20}, "says that step 20 was best; by metrics.jsonl it is 40"),
    "no choice was made": ({"num_steps": 30}, "says that it took 30 steps; by metrics.jsonl it took 40"),
    "its validation score": (
        {"scores": {"validation": {"f1": 99.5}}},
        "says validation f1 99.5; by metrics.jsonl it is ",
    ),
    "the metric that chose": (
        {"primary": "f1_strict"},
        "says that f1_strict chose its step, and by its settings f1",
    ),
    "a metric in no list": ({"metrics": {}}, "has no score by f1, which chose its step"),
    "what its task learned": (
        {"task_state": {"labels": 7}},
        "has learned of its task what the task cannot read",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_a_manifest_says_of_training_is_in_its_log(folder, name):
    run, (changes, said) = made.run_folder(folder, "gate", 2), FORGED[name]
    assert list(run_differences(run)) == []
    known = json.loads((run / "manifest.json").read_text())["scores"]
    changes = changes | ({"scores": known | changes["scores"]} if "scores" in changes else {})
    forge(run, **changes)
    assert any(said in line for line in run_differences(run)), list(run_differences(run))


def test_a_metric_that_was_taken_out_of_a_run_is_named(folder):
    run = made.run_folder(folder, "gate", 2)
    log = run / "metrics.jsonl"
    log.write_text(log.read_text().replace('"loss": 0.05', '"loss": 0.05, "precision": 3.0'))
    made.list_again(run)
    assert "has no score by precision, and metrics.jsonl has" in " ".join(run_differences(run))


def test_a_metric_whose_options_are_not_those_of_its_signature_is_refused(tmp_path):
    stated = made.config()
    run = stated.run_config("toy", "stock", 1)
    texts, bleu = ["a b c d e"] * 12, load("bleu", {"tokenize": "char"})
    evaluation = SimpleNamespace(
        ids=[str(n) for n in range(12)],
        clusters=[str(n) for n in range(12)],
        predictions=texts,
        references=texts,
        metrics={"bleu": bleu},
        statistics={"bleu": bleu.table(texts, texts)},
    )
    made.finish(tmp_path / "run", run, identity.describe(run), evaluation=evaluation)
    assert read(tmp_path / "run", "run", "test").score("bleu") == pytest.approx(100)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    manifest["metrics"]["bleu"]["signature"] = load("bleu").signature
    forge(tmp_path / "run", metrics=manifest["metrics"])
    with pytest.raises(UserError, match=r"says that bleu is .*tok:13a.*, and its options make it .*tok:char"):
        read(tmp_path / "run", "run", "test")


# ---- runs against each other, and against the registration
def test_another_score_without_a_model_in_one_arm_is_named_by_every_reader(folder, capsys):
    for seed in (1, 2, 3):
        record = {
            "split": "validation",
            "num_examples": 20,
            "scores": {"most frequent": {"f1": 90.0 - seed % 2}},
        }
        for arm in ("stock", "gate"):
            forge(made.run_folder(folder, arm, seed), baselines=record if arm == "gate" else None)
    assert main(["report", str(folder)]) == 2
    assert "states other scores without a model than toy / stock / seed 1" in capsys.readouterr().err


def test_a_seed_that_the_rule_did_not_add_is_a_change():
    stopping = {"rule": "sequential", "most_seeds": 6, "first_seeds": 3}
    declared = declaration.declare(made.config(stopping=stopping))

    def changes(config: AblationConfig) -> list[str]:
        return [str(one) for one in declaration.deviations(declared, config, [])]

    assert changes(made.config(seeds=[1, 2, 3, 4, 5], stopping=stopping)) == []
    assert changes(made.config(seeds=[1, 2, 3, 5], stopping=stopping)) == ["added seeds: [4] -> [5]"]
    assert changes(made.config(seeds=list(range(1, 8)), stopping=stopping)) == [
        "number of seeds: at most 6 -> 7"
    ]


def test_runs_made_again_are_chained_to_that(folder):
    before = read_registration(folder)
    register(made.config(), folder, fresh=True)
    again = read_registration(folder)
    assert seal(again) == seal(before)
    assert seals(again)[0] == seals(before)[-1] != seals(again)[-1]
    run = made.run_folder(folder, "gate", 1)
    forge(run, registration=seals(again)[-1])
    cells = open_ablation(folder).cells
    assert list(chain.differences(folder, again, "stock", cells)) == []
    stored = json.loads((folder / "registration.json").read_text())
    made.forge(folder / "registration.json", {name: stored[name] for name in stored if name != "made_again"})
    [line] = chain.differences(folder, read_registration(folder), "stock", cells)
    assert line.startswith("toy / gate / seed 1 was trained under another registration")


def test_a_run_that_names_no_registration_is_named(folder):
    run = made.run_folder(folder, "gate", 1)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest.pop("registration")
    made.forge(run / "manifest.json", manifest)
    made.list_again(run)
    cells, registered = open_ablation(folder).cells, read_registration(folder)
    lines = list(chain.differences(folder, registered, "stock", cells))
    assert lines == ["toy / gate / seed 1 was trained under no registration"]


# ---- the ledger
def test_a_clock_that_was_set_back_does_not_make_a_look_the_first(tmp_path):
    look = {"test": "t", "cell": "c", "arm": "a", "metric": "m", "p": 0.5, "finished": 6, "planned": 6}
    times = ["2026-03-01T00:00:00+00:00", "2020-01-01T00:00:00+00:00", "2026-03-02T00:00:00+00:00"]
    for number, time in enumerate(times):
        ledger.note(tmp_path, [{**look, "time": time, "ablation": str(number)}])
    shown = looks._shown([ledger.read(tmp_path)], {"c": "t"}, {})
    assert [one["time"] for one in shown] == times


# ---- runs that are trained again
def test_nobody_knows_beforehand_which_run_is_trained_again(folder):
    cells = open_ablation(folder).cells
    drawn = {replay.drawn(cells, replay.new_digest(), 1)[0].label for _ in range(60)}
    assert len(drawn) == 6


@pytest.mark.parametrize(
    "change",
    [
        {"baselines": {"scores": {}}},
        {"num_parameters": 900},
        {"best_step": 20},
        {"data": {"hashes": {"test": "x"}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_a_record_states_beside_its_predictions_is_compared_too(folder, tmp_path, change):
    old = made.run_folder(folder, "stock", 1)
    forge(old, baselines={"scores": {"most frequent": {"f1": 2.0}}})
    new = Path(shutil.copytree(old, tmp_path / "again"))
    assert compare_runs(old, new, "run", alike=True).result == EQUAL
    forge(old, **change)
    found = compare_runs(old, new, "run", alike=True)
    assert (found.result, f"manifest.json: {next(iter(change))}" in found.detail) == (DIFFERENT, True), found


def test_data_that_equal_settings_cannot_have_read_is_different_in_any_conditions(folder, tmp_path):
    old = made.run_folder(folder, "stock", 1)
    new = Path(shutil.copytree(old, tmp_path / "again"))
    forge(old, data={"hashes": {"test": "another"}})
    assert compare_runs(old, new, "run", alike=False).result == DIFFERENT


def test_losses_that_were_made_up_are_different(folder, tmp_path):
    old = made.run_folder(folder, "stock", 1)
    new = Path(shutil.copytree(old, tmp_path / "again"))
    log = old / "metrics.jsonl"
    log.write_text(log.read_text().replace('"loss": 0.1,', '"loss": 0.11,', 1))
    made.list_again(old)
    assert "metrics.jsonl: from line 2 on" in compare_runs(old, new, "run", alike=True).detail


def test_an_ablation_is_not_its_own_repetition(folder, capsys):
    run = made.run_folder(folder, "stock", 1)
    (folder.parent / "aside").mkdir()
    (folder.parent / "aside" / "cells").symlink_to(folder.parent / "cells")
    for old, new in ((folder, folder.parent), (folder, folder.parent / "aside"), (run, run)):
        assert main(["reproduce", str(old), "--out", str(new)]) == 2
        assert "so nothing would be trained" in capsys.readouterr().err


# ---- what was judged
def test_a_test_split_of_the_rows_of_validation_was_selected_on():
    data = {"hashes": {"test": "a", "validation": "b"}, "rows": {"test": "c", "validation": "c"}}
    run = SimpleNamespace(manifest={"data": data, "best_step": 20, "num_steps": 40})
    cell = ScoredCell("toy", {"baseline": "stock", "seeds": [1]}, "test", {("stock", 1): run})
    assert "best on the split that is judged" in cell.selected
    data["rows"]["test"] = "d"
    assert cell.selected == ""
