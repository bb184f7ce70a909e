"""A run or an ablation is what its files and overrides say, every default written out, nothing guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.config import checks
from pipelines.config.ablation import AblationFile
from pipelines.config.load import (
    RUN_EXECUTION_KEYS,
    ablation_from_dict,
    is_ablation,
    load_ablation,
    load_run,
    run_from_dict,
)
from pipelines.config.run import RunConfig
from pipelines.errors import UserError
from pipelines.storage import atomic

RUN = """
task: ner
data: {generated: {name: ner, train: 70, validation: 30}}
model: {architecture: bert, family: encoder}
"""
ABLATION = """
cells: {small: [run.yaml, {num_epochs: 5}]}
set: {batch_size: 4, where: {layers: "0"}}
arms:
  stock: []
  gate: [gate]
  hot:
    attention: {temperature: {per: layer}}
    where: {kind: self}
    set: {learning_rate: 3e-5, task: {max_len: 31}}
  again: {seed_offset: 100}
seeds: [1, 2, 7]
primary: {ner: f1}
margin: {f1: 1}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "ablation.yaml").write_text(ABLATION)
    return tmp_path


def test_defaults_are_those_of_the_contract(folder):
    run = load_run(["run.yaml"], [])
    assert (run.seed, run.num_epochs, run.batch_size, run.learning_rate) == (1, 3, 16, 5e-5)
    assert (run.variant_learning_rate, run.variant_weight_decay, run.weight_decay) == (1e-3, 0.0, 0.01)
    assert (run.attention, run.where.kind, run.where.layers) == ((), "all", None)
    assert (run.data.generated.test, run.data.on_bad_row, run.model.vocab_size) == (0, "stop", 8000)


def test_files_then_overrides_are_merged_left_to_right(folder):
    (folder / "more.yaml").write_text(
        "seed: 5\nlearning_rate: 2e-5\nattention: [gate, {temperature: {per: layer}}]\n"
    )
    run = load_run(["run.yaml", "more.yaml"], ["seed=7", "task.max_len=63", "model.config.hidden_size=48"])
    assert (run.seed, run.learning_rate, run.model.config) == (7, 2e-5, {"hidden_size": 48})
    assert (run.task.name, run.task.options) == ("ner", {"max_len": 63})
    assert [(spec.name, spec.options) for spec in run.attention] == [
        ("gate", {}),
        ("temperature", {"per": "layer"}),
    ]


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("task: ner", "task: {name: ner}"),
        ("attention: gate", "attention: [gate]"),
        ("attention: {temperature: {per: layer}}", "attention: [{temperature: {per: layer}}]"),
        ("attention: [{gate: }]", "attention: [gate]"),
        ("learning_rate: 1", "learning_rate: 1.0"),
    ],
)
def test_short_forms_mean_their_long_forms(folder, short, long):
    for name, text in (("short.yaml", short), ("long.yaml", long)):
        (folder / name).write_text(text)
    assert load_run(["run.yaml", "short.yaml"]) == load_run(["run.yaml", "long.yaml"])


def test_a_list_of_variants_is_replaced_not_extended(folder):
    assert load_run(["run.yaml"], ["attention=[gate, softcap]", "attention=[]"]).attention == ()


def test_paths_start_from_the_file_they_stand_in(folder):
    for place in ("data", "deep/data"):
        (folder / place).mkdir(parents=True)
        (folder / place / "rows.jsonl").write_text("")
    (folder / "deep" / "files.yaml").write_text(
        "data: {train: data/rows.jsonl, validation: data/rows.jsonl}\ntask: ner\n"
        "model: {name: ./data, family: encoder}\n"
    )
    run = load_run(["deep/files.yaml"], ["data.test=data/rows.jsonl"])
    assert run.data.train == run.data.validation == str(folder / "deep" / "data" / "rows.jsonl")
    assert run.data.test == str(folder / "data" / "rows.jsonl")
    assert run.model.name == str(folder / "deep" / "data")


def test_hub_names_and_splits_are_no_paths(folder):
    (folder / "hub.yaml").write_text(
        "data: {name: leondz/wnut_17, train: 'train[:10%]'}\ntask: ner\n"
        "model: {name: google-bert/bert-base-cased, family: encoder}\n"
    )
    run = load_run(["hub.yaml"])
    assert (run.data.train, run.model.name) == ("train[:10%]", "google-bert/bert-base-cased")


def test_a_run_cannot_be_changed(folder):
    run = load_run(["run.yaml"])
    for part, name in ((run, "seed"), (run.data, "train"), (run.where, "layers")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, name, None)


NAMES = st.text("abcdefgh_", min_size=1, max_size=6)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.none() | st.booleans() | NUMBERS | st.text(max_size=4) | st.lists(st.integers(), max_size=2)
OPTIONS = st.dictionaries(NAMES.filter(lambda name: name not in ("name", "options")), VALUES, max_size=3)
TASKS = st.builds(lambda name, options: {"name": name, **options}, NAMES, OPTIONS)
VARIANTS = NAMES | st.builds(lambda name, options: {name: options}, NAMES, OPTIONS)
CORPORA = {
    "name": NAMES,
    "train": st.integers(1, 10**7),
    "validation": st.integers(1, 10**7),
    "options": OPTIONS,
}
MODELS = {"architecture": NAMES, "family": st.sampled_from(["encoder", "decoder"]), "config": OPTIONS}
FIELDS = st.fixed_dictionaries(
    {
        "task": TASKS,
        "data": st.fixed_dictionaries({"generated": st.fixed_dictionaries(CORPORA)}),
        "model": st.fixed_dictionaries(MODELS),
    },
    optional={
        "attention": st.lists(VARIANTS, max_size=3),
        "where": st.fixed_dictionaries({"layers": st.sampled_from([None, "0", "0-3,5", " 1 - 2 "])}),
        "learning_rate": st.floats(1e-12, 10) | st.integers(1, 5),
        "max_grad_norm": st.none() | st.floats(0.1, 9),
        "early_stopping_patience": st.none() | st.integers(1, 9),
        "seed": st.integers(0),
        "schedule": st.sampled_from(["linear", "cosine", "constant"]),
    },
)


WITH_CONTROL_CHARACTER = {  # U+0085, which PyYAML by itself reads as another one than it wrote
    "task": {"name": "a", "b": "\x85"},
    "data": {"generated": {"name": "a", "train": 1, "validation": 1}},
    "model": {"architecture": "a", "family": "encoder"},
}


@given(values=FIELDS)
@example(values=WITH_CONTROL_CHARACTER)
def test_a_run_survives_being_written_and_read(values):
    run = run_from_dict(values)
    written = run.to_dict()
    assert run_from_dict(json.loads(json.dumps(written))) == run
    assert run_from_dict(yaml.safe_load(atomic.yaml_text(written))).to_dict() == written
    assert written.keys() == RunConfig.model_fields.keys()


def test_a_written_run_is_itself_a_run_file(folder):
    run = load_run(["run.yaml"], ["attention=[gate, {temperature: {per: layer}}]", "task.max_len=63"])
    (folder / "written.yaml").write_text(yaml.safe_dump(run.to_dict()))
    assert load_run(["written.yaml"]) == run


def test_execution_keys_are_settings_of_a_run():
    assert set(RunConfig.model_fields) >= RUN_EXECUTION_KEYS
    assert not RUN_EXECUTION_KEYS & {
        "seed",
        "task",
        "data",
        "model",
        "attention",
        "where",
        "batch_size",
        "precision",
    }


def test_every_setting_explains_itself():
    for model in (RunConfig, AblationFile):
        assert [name for name, field in model.model_fields.items() if not field.description] == []


# ---- ablations


def test_an_ablation_is_known_by_its_arms(folder):
    assert is_ablation("ablation.yaml")
    assert not is_ablation("run.yaml")


def test_a_run_of_an_ablation_is_the_cell_then_set_then_the_arm_then_the_seed(folder):
    ablation = load_ablation("ablation.yaml")
    by_hand = load_run(
        ["run.yaml"],
        ["num_epochs=5", "batch_size=4", "where={kind: self}", "learning_rate=3e-5",
         "task.max_len=31", "attention={temperature: {per: layer}}", "seed=7"],
    )  # fmt: skip
    assert ablation.run_config("small", "hot", 7) == by_hand
    stock = ablation.run_config("small", "stock", 2)
    assert stock == load_run(["run.yaml"], ["num_epochs=5", "batch_size=4", "where.layers='0'", "seed=2"])


def test_where_of_an_arm_stands_in_place_of_that_of_its_cell(folder):
    where = load_ablation("ablation.yaml").run_config("small", "hot", 1).where
    assert (where.kind, where.layers) == ("self", None)


def test_a_seed_offset_makes_other_runs_of_the_same_arm(folder):
    ablation = load_ablation("ablation.yaml")
    assert ablation.run_config("small", "again", 7).seed == 107
    assert ablation.run_config("small", "again", 7) == ablation.run_config("small", "stock", 107)


def test_an_ablation_survives_being_written_and_read(folder):
    ablation = load_ablation("ablation.yaml")
    written = json.loads(json.dumps(ablation.to_dict()))
    assert ablation_from_dict(written) == ablation
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "ablation.yaml").write_text(yaml.safe_dump(written))
    again = load_ablation("elsewhere/ablation.yaml")
    grid = [(cell, arm, seed) for cell in ablation.cells for arm in ablation.arms for seed in ablation.seeds]
    assert [again.run_config(*one) for one in grid] == [ablation.run_config(*one) for one in grid]


def test_overrides_of_an_ablation_reach_its_parts(folder):
    ablation = load_ablation("ablation.yaml", ["seeds=[4]", "set.batch_size=9", "arms.gate.set.num_epochs=2"])
    assert ablation.seeds == (4,)
    run = ablation.run_config("small", "gate", 4)
    assert (run.batch_size, run.num_epochs, run.attention[0].name) == (9, 2, "gate")


def test_paths_in_an_ablation_start_from_the_file_they_stand_in(folder):
    (folder / "sub").mkdir()
    for name in ("a.jsonl", "sub/b.jsonl"):
        (folder / name).write_text("")
    (folder / "files.yaml").write_text(
        "task: ner\nmodel: {architecture: bert, family: encoder}\n"
        "data: {train: a.jsonl, validation: a.jsonl}\n"
    )
    (folder / "sub" / "ablation.yaml").write_text(
        "cells: {one: ../files.yaml}\nseeds: [1]\narms: {stock: [], other: {set: {data: {train: b.jsonl}}}}\n"
    )
    ablation = load_ablation("sub/ablation.yaml")
    assert ablation.run_config("one", "stock", 1).data.train == str(folder / "a.jsonl")
    assert ablation.run_config("one", "other", 1).data.train == str(folder / "sub" / "b.jsonl")


def test_a_stored_run_is_read_without_its_files_and_variants(folder):
    values = load_run(["run.yaml"]).to_dict()
    values["data"] |= {"generated": None, "train": "/gone/a.jsonl", "validation": "/gone/b.jsonl"}
    values |= {"attention": ["a_variant_since_deleted"]}
    assert run_from_dict(values).data.train == "/gone/a.jsonl"
    with pytest.raises(UserError, match="unknown key 'sed'; perhaps seed was meant"):
        run_from_dict(values | {"sed": 1})


def test_every_path_of_a_run_is_resolved():
    """A new setting that names a file must be listed, or it would depend on the working folder."""
    described = {
        (section, name)
        for section in ("data", "model")
        for name, field in RunConfig.model_fields[section].annotation.model_fields.items()
        if (field.description or "").startswith(("file", "folder"))
    }
    assert described == set(checks.FILE_KEYS + checks.FOLDER_KEYS)
