"""No side of a comparison passes for another: every reader names the run that is not what the grid says."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from pipelines.ablation import sides
from pipelines.ablation.folder import open_ablation
from pipelines.actions.reproduce import repeat_ablation
from pipelines.cli.main import main
from pipelines.config.load import run_from_dict
from pipelines.errors import UserError
from pipelines.runs import identity
from tests.pipelines import stored_ablation as made

ARMS = {"stock": [], "lowrate": {"set": {"learning_rate": 2e-5}}, "gate": ["gate"]}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return made.reported(tmp_path_factory.mktemp("built"), arms=ARMS)


def edit_runs(folder: Path, change) -> None:
    names = json.loads((folder / "runs.json").read_text())
    change(names)
    (folder / "runs.json").write_text(json.dumps(names))


def edit_yaml(folder: Path, change) -> None:
    stated = yaml.safe_load((folder / "ablation.yaml").read_text())
    change(stated)
    (folder / "ablation.yaml").write_text(yaml.safe_dump(stated))


# ---- attacks
def exchange_two_arms(folder: Path) -> None:
    def change(names):
        for seed in (1, 2, 3):
            one, other = f"toy/stock/{seed}", f"toy/lowrate/{seed}"
            names[one], names[other] = names[other], names[one]

    edit_runs(folder, change)


def exchange_two_seeds(folder: Path) -> None:
    def change(names):
        names["toy/gate/1"], names["toy/gate/2"] = names["toy/gate/2"], names["toy/gate/1"]

    edit_runs(folder, change)


def use_a_run_twice(folder: Path) -> None:
    edit_runs(folder, lambda names: names.update({"toy/gate/3": names["toy/gate/2"]}))


def rename_two_folders(folder: Path) -> None:
    one, other = made.run_folder(folder, "stock", 1), made.run_folder(folder, "gate", 1)
    one.rename(one.parent / "aside")
    other.rename(one)
    (one.parent / "aside").rename(other)


def name_folders_anew(folder: Path) -> None:
    for arm in ("stock", "gate"):
        path = made.run_folder(folder, arm, 2)
        path.rename(path.parent / f"-{arm}")
    edit_runs(folder, lambda names: names.update({"toy/stock/2": "-stock", "toy/gate/2": "-gate"}))


def edit_an_arm(folder: Path) -> None:
    edit_yaml(
        folder,
        lambda stated: stated["arms"]["gate"].update(attention=[{"name": "temperature", "options": {}}]),
    )


def edit_a_setting_of_an_arm(folder: Path) -> None:
    edit_yaml(folder, lambda stated: stated["arms"]["lowrate"].update(set={"learning_rate": 4e-5}))


def exchange_the_names_of_two_arms(folder: Path) -> None:
    def change(stated):
        arms = stated["arms"]
        arms["stock"], arms["gate"] = arms["gate"], arms["stock"]

    edit_yaml(folder, change)


def move_where_an_arm_is_attached(folder: Path) -> None:
    edit_yaml(folder, lambda stated: stated["cells"]["toy"]["where"].update(layers="0"))


def raise_the_seeds(folder: Path) -> None:
    edit_yaml(folder, lambda stated: stated["arms"]["gate"].update(seed_offset=1))


ATTACKS = {
    exchange_two_arms: "learning_rate: ",
    exchange_two_seeds: "seed: ",
    use_a_run_twice: "seed: 2 -> 3",
    rename_two_folders: "in the folder of another",
    name_folders_anew: "in the folder of another",
    edit_an_arm: "attention: ",
    edit_a_setting_of_an_arm: "learning_rate: 2e-05 -> 4e-05",
    exchange_the_names_of_two_arms: "attention: ",
    move_where_an_arm_is_attached: "where.layers: ",
    raise_the_seeds: "seed: ",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_on_the_sides_is_named_by_every_reader(folder, capsys, attack):
    attack(folder)
    before = (folder / "results.json").read_bytes()
    assert main(["verify", str(folder)]) == 1
    assert ATTACKS[attack] in capsys.readouterr().out
    again = ["report", str(folder)], ["push", str(folder), "org/name", "--dry-run"]
    for command in (*again, ["reproduce", str(folder), "--out", f"{folder}-again"]):
        assert main(command) == 2, command
        said = capsys.readouterr().err
        assert said.startswith(f"{folder}: a run is not what the grid says: toy / ")
        assert said.count("\n") == 1
    assert (folder / "results.json").read_bytes() == before
    assert not Path(f"{folder}-again").exists()
    assert main(["status", str(folder)]) == 0
    assert "not what the grid says: toy / " in capsys.readouterr().out


def test_what_nobody_touched_is_every_side(folder):
    assert list(sides.differences(open_ablation(folder).cells)) == []


def test_each_exchange_of_two_runs_is_named_with_both_labels(folder):
    names = json.loads((folder / "runs.json").read_text())
    for one, other in list(combinations(names, 2))[::5]:
        (folder / "runs.json").write_text(json.dumps(names | {one: names[other], other: names[one]}))
        found = {line.partition(":")[0] for line in sides.differences(open_ablation(folder).cells)}
        assert found >= {shown(one), shown(other)}


def shown(label: str) -> str:
    cell, arm, seed = label.split("/")
    return f"{cell} / {arm} / seed {seed}"


def test_an_exchanged_run_that_diverged_is_named_too(folder):
    manifest = made.run_folder(folder, "stock", 1) / "manifest.json"
    stated = json.loads(manifest.read_text()) | {"status": "diverged", "diverged_at": 3}
    made.forge(manifest, stated)
    exchange_two_arms(folder)
    with pytest.raises(UserError, match="a run is not what the grid says"):
        sides.require(folder, open_ablation(folder).cells)


def test_runs_of_one_arm_that_read_other_files_are_named(tmp_path):
    described = {
        "numerics": 1,
        "config": {"seed": 1, "data": {"test": "sha256:aa"}},
        "sources": {"pipelines.tasks.ner": "11"},
    }
    other = json.loads(json.dumps(described))
    other["config"] |= {"seed": 2, "data": {"test": "sha256:bb"}}
    other["sources"]["pipelines.tasks.ner"] = "22"
    assert list(sides._unlike(described, described | {"config": described["config"] | {"seed": 9}})) == []
    assert list(sides._unlike(described, other)) == [
        "config.data.test: 'sha256:aa' -> 'sha256:bb'",
        "sources.pipelines.tasks.ner: '11' -> '22'",
    ]


def test_runs_of_one_cell_that_read_other_examples_are_named(folder, capsys):
    """A data set of the Hub without a revision may change between two runs."""
    path = made.run_folder(folder, "lowrate", 3) / "manifest.json"
    made.forge(path, json.loads(path.read_text().replace('"test": "abc"', '"test": "abd"')))
    assert main(["verify", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "seed 3: has read other examples than toy / stock / seed 1: test: 'abc' -> " in said


def test_files_are_compared_by_content_and_their_loss_is_a_difference(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"{name}\n")
    files = {"en": str(tmp_path / "a.txt"), "de": str(tmp_path / "b.txt")}
    run = {
        "task": {"name": "translation", "target_language": "de"},
        "data": {"train": files, "validation": files, "columns": {"source": "en", "target": "de"}},
        "model": {"architecture": "t5", "family": "encoder_decoder"},
    }
    config = run_from_dict(run)
    described = identity.describe(config)
    assert identity.other_settings(described, config.to_dict()) == []
    lost = json.loads(json.dumps(config.to_dict()))
    lost["data"]["train"] = {"en": files["en"], "de": None}
    [line] = identity.other_settings(described, lost)
    assert line.startswith("data.train.de: 'sha256:")


def test_another_file_in_the_place_of_what_a_run_read_is_named(tmp_path):
    for name, text in {"a.csv": "good,1\n", "copy.csv": "good,1\n", "b.csv": "bad,0\n"}.items():
        (tmp_path / name).write_text(f"text,label\n{text}")
    read, copy, other = (str(tmp_path / name) for name in ("a.csv", "copy.csv", "b.csv"))
    contents = {"config": {"data": {"test": identity.content_of(read)}}}
    stated = {path: {"data": {"test": path}} for path in (read, copy, other)}
    assert sides._other_files(contents, stated[read], stated[read]) == []
    assert sides._other_files(contents, stated[read], stated[copy]) == []
    assert sides._other_files(contents, stated[read], stated[other]) == [f"data.test: {read!r} -> {other!r}"]
    [said] = sides._other_files(contents, stated[read], stated[copy], reads=False)  # what was downloaded
    assert said == f"data.test: {read!r} -> {copy!r}"


def test_a_repetition_of_exchanged_sides_trains_nothing(folder, tmp_path):
    exchange_two_arms(folder)
    with pytest.raises(UserError, match="a run is not what the grid says"):
        repeat_ablation(folder, tmp_path / "again", None)
