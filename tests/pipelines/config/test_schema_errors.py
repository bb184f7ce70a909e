"""A broken configuration is told on one screen: where it is, what came, what to write instead; exit 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines import errors
from pipelines.cli.main import MOST_LINES, main

RUN = """\
task: ner
data: {generated: {name: ner, train: 70, validation: 30}}
model: {architecture: bert, family: encoder}
"""
ABLATION = """\
cells: {small: [run.yaml]}
arms:
  stock: []
  gate: [gate]
seeds: [1, 2, 3]
primary: {ner: f1}
margin: {f1: 0.5}
"""


@dataclass(frozen=True)
class Broken:
    """Files of one broken configuration, arguments after them, and what must be said at which place."""

    name: str
    where: str
    says: tuple[str, ...]
    run: str = RUN
    ablation: str | None = None
    more: tuple[str, ...] = ()


def added(name: str, text: str, *says: str, line: int = 4) -> Broken:
    """The run file with lines at its end."""
    return Broken(name, f"run.yaml:{line}", says, run=f"{RUN}{text}\n")


def changed(name: str, old: str, new: str, line: int, *says: str) -> Broken:
    """The run file with something replaced."""
    assert old in RUN
    return Broken(name, f"run.yaml:{line}", says, run=RUN.replace(old, new, 1))


def overridden(name: str, override: str, *says: str) -> Broken:
    """The good run file with something wrong after it on the command line."""
    return Broken(name, override, says, more=(override,))


def ablation(name: str, old: str, new: str, line: int, *says: str) -> Broken:
    """The ablation file with something replaced, or added where nothing is."""
    assert old in ABLATION
    text = ABLATION.replace(old, new, 1) if old else f"{ABLATION}{new}\n"
    return Broken(name, f"ablation.yaml:{line}", says, ablation=text)


DATA = "data: {generated: {name: ner, train: 70, validation: 30}}"
RUNS = [
    added("text for a number", "num_epochs: three", "whole number", "'three'"),
    added("a number in quotes", "batch_size: '8'", "without quotes"),
    added("a fraction of an epoch", "num_epochs: 2.5", "whole number", "2.5"),
    added("a list for a number", "seed: [1, 2]", "seed must be a whole number"),
    added("a misspelt key", "learnig_rate: 2e-5", "perhaps learning_rate was meant"),
    added("part of a key", "epochs: 3", "perhaps num_epochs was meant"),
    added("the initials of a key", "lr: 3", "perhaps learning_rate was meant"),
    added("a key of another section", "layers: '3'", "write where.layers"),
    added("a key nobody knows", "zzz: 3", "unknown key 'zzz'", "attnlab init"),
    added("a misspelt choice", "schedule: cosin", "perhaps cosine was meant", "linear"),
    added("the Norwegian problem", "select_by: no", "boolean no", 'select_by: "no"'),
    added("a number for text", "where: {layers: 3}", 'layers: "3"'),
    added("layers that are no range", "where: {layers: first}", "where.layers", "'first'"),
    added("layers backwards", "where: {layers: '5-3'}", "where.layers", "5-3 is backwards"),
    added("a negative rate", "learning_rate: -2e-5", "must be above 0", "-2e-05"),
    added("no examples", "batch_size: 0", "batch_size must be 1 or more"),
    added("a ratio of one", "warmup_ratio: 1.0", "warmup_ratio must be below 1"),
    added("an infinite rate", "learning_rate: .inf", "must be finite"),
    added("a number for a switch", "train_variant: 1", "true or false"),
    added("null where a value is due", "schedule:", "schedule"),
    added("a key twice", "seed: 1\nseed: 2", "is set twice", "run.yaml:4", line=5),
    added("a tab", "where:\n\tlayers: '3'", "use spaces", line=5),
    added("an open bracket", "attention: [gate", "not valid YAML", line=5),
    added("an unknown variant", "attention: [gat]", "'gat'", "perhaps gate was meant"),
    added("an unknown option", "attention: [{temperature: {pre: head}}]", "'pre'", "perhaps per was meant"),
    added("an option of none", "attention:\n- cosine: {per: head}", "cosine takes no options", line=5),
    added(
        "a misspelt option value",
        "attention:\n- temperature:\n    per: heads",
        "perhaps head",
        "layer",
        line=6,
    ),
    added(
        "a wrong option value",
        "attention: [{softcap: {cap: high}}]",
        "cap of variant softcap",
        "'high'",
        "float",
    ),
    added("a boolean option value", "attention: [{softcap: {cap: yes}}]", "cap of variant softcap"),
    added("two variants in one mapping", "attention: [{gate: {}, softcap: {}}]", "one variant is a name"),
    added("a variant that is a number", "attention: [3]", "one variant is a name"),
    added("options that are a list", "attention: [{softcap: [50]}]", "mapping"),
    added(
        "a class that is not there", "attention: ['nowhere.gates:Gate']", "nowhere.gates:Gate", "importable"
    ),
    added("a section that is no mapping", "where: all", "where must be a mapping"),
    added("an unknown metric", "select_by: f2", "unknown metric 'f2'", "f1"),
    changed("an unknown task", "ner", "nre", 1, "perhaps ner was meant"),
    changed("a boolean for a file", DATA, "data:\n  train: off", 3, "data.train", 'train: "off"'),
    changed(
        "an unknown column", DATA, "data: {columns: {token: words}}", 2, "'token'", "perhaps tokens was meant"
    ),
    changed(
        "missing files",
        DATA,
        "data: {train: a.jsonl, validation: b.csv}",
        2,
        "no file a.jsonl",
        "no file b.csv",
    ),
    changed("no validation file", DATA, "data: {train: run.yaml}", 2, "data.validation is missing"),
    changed("no source of data", DATA, "data: {}", 2, "one of data.name, data.train and data.generated"),
    changed("no model", "model", "#", 1, "model is missing"),
    changed("no task", "task: ner", "#", 1, "task is missing"),
    changed("no family", ", family: encoder", "", 3, "model.family", "T5"),
    changed(
        "an unknown architecture", "architecture: bert", "architecture: brt", 3, "perhaps bert was meant"
    ),
    changed("an empty file", RUN, "# nothing yet\n", 1, "the file is empty"),
    changed("a list at the top", RUN, "- task\n- data\n", 1, "key: value", "a list"),
    changed("a word at the top", RUN, "task ner\n", 1, "key: value"),
    overridden(
        "a list of seeds",
        "seed=[4, 5]",
        "seed must be a whole number",
        "several seeds are an ablation, of one arm too",
        "arms: {mine: [gate]}, baseline: mine, seeds: [4, 5]",
    ),
    overridden("two sources of data", "data.name=squad", "exclude each other"),
    overridden("two models", "model.name=google/bert", "exclude each other"),
    overridden("a missing folder", "model={name: ./bert, family: encoder}", "no folder ./bert"),
    overridden("an unknown option of a task", "task.max_lenth=9", "perhaps max_len was meant"),
    overridden("a wrong option of a task", "task.max_len=long", "'long'", "int"),
    overridden("an unknown corpus", "data.generated.name=nerr", "perhaps ner was meant"),
    overridden(
        "an unknown option of a corpus", "data.generated.options.ambig=1", "perhaps ambiguity was meant"
    ),
    overridden("no override", "seed:3", "no such file"),
    overridden("an override without a value", "seed=", "seed=null"),
    overridden("a misspelt override", "sede=3", "perhaps seed was meant"),
    overridden("a boolean in an override", "select_by=no", """'select_by="no"'"""),
    overridden("a missing run file", "tsak.yaml", "no such file"),
]

GATE = "gate: [gate]"
ABLATIONS = [
    ablation("an arm twice", "  gate:", "  stock: []\n  gate:", 4, "'stock' is set twice"),
    ablation("no seeds", "seeds", "#", 1, "seeds is missing"),
    ablation("an empty list of seeds", "[1, 2, 3]", "[]", 5, "seeds", "at least 1"),
    ablation("one seed, no list", "[1, 2, 3]", "3", 5, "seeds must be a list"),
    ablation("a seed twice", "[1, 2, 3]", "[1, 2, 1]", 5, "the seed 1 is in seeds twice"),
    ablation("a seed that is text", "[1, 2, 3]", "\n- 1\n- two", 7, "'two'", "whole number"),
    ablation("no cells", "cells", "#", 1, "cells is missing"),
    ablation("no arm", ABLATION, "cells: {small: [run.yaml]}\narms: {}\n", 2, "arms", "at least 1"),
    ablation("arms that are a list", ABLATION, "cells: {a: run.yaml}\narms: [stock]\n", 2, "arms must be a"),
    ablation("an unknown baseline", "", "baseline: stok", 8, "perhaps stock was meant"),
    ablation("no arm for the baseline", "stock", "plain", 1, "'stock' is not an arm", "gate, plain"),
    ablation("an unknown primary metric", "ner: f1", "ner: f3", 6, "unknown metric 'f3'"),
    ablation("a primary metric of no task", "ner: f1", "qa: f1", 6, "no cell has the task 'qa'"),
    ablation("a margin for no metric", "f1: 0.5", "f3: 0.5", 7, "'f3'", "f1"),
    ablation("a margin of nothing", "f1: 0.5", "f1: 0", 7, "margin.f1 must be above 0"),
    ablation("a misspelt key of an arm", GATE, "gate: {atention: [gate]}", 4, "perhaps attention was meant"),
    ablation("a misspelt setting", GATE, "gate: {set: {lerning_rate: 1}}", 4, "perhaps learning_rate"),
    ablation("a bad setting", GATE, "gate: {set: {num_epochs: 0}}", 4, "num_epochs must be 1 or more"),
    ablation("a seed in an arm", GATE, "gate: {set: {seed: 3}}", 4, "seed cannot be in set; use seeds"),
    ablation("attention in set", "", "set: {attention: [gate]}", 8, "use arms"),
    ablation("an unknown variant of an arm", GATE, "gate: [gaet]", 4, "perhaps gate was meant"),
    ablation("a bad option", GATE, "gate: [{unscaled: {mode: naiv}}]", 4, "perhaps naive was meant"),
    ablation("bad layers", GATE, "gate: {attention: gate, where: {layers: 0-}}", 4, "where.layers", "'0-'"),
    ablation("a setting of the runs at the top", "", "num_epochs: 2", 8, "write set.num_epochs"),
    ablation("a cell of numbers", "[run.yaml]", "[3]", 1, "cells.small.0: a cell is a list of run files"),
    ablation("a cell of nothing", "[run.yaml]", "[]", 1, "cells.small", "at least 1"),
    ablation("a name that is no name", "gate:", "a b/c:", 4, "'a b/c' cannot be a name"),
    ablation("an unknown keep", "", "keep: all", 8, "best_seed"),
    Broken("a missing cell file", "a/rnu.yaml", ("no such file",), ablation=ABLATION.replace("run", "a/rnu")),
    Broken("a mistake in a cell", "run.yaml:4", ("seed must",), run=f"{RUN}seed: -1\n", ablation=ABLATION),
    Broken("a cell with an attention", "run.yaml:4", ("which its arms decide",),
           run=f"{RUN}attention: [gate]\n", ablation=ABLATION),
    Broken("mistakes everywhere", "run.yaml:4", ("run.yaml:5", "ablation.yaml:8", "ablation.yaml:9"),
           run=f"{RUN}seed: -1\nfoo: 1\n", ablation=f"{ABLATION}jobs: none\nkeep: 3\n"),
]  # fmt: skip


def _write(folder: Path, case: Broken) -> str:
    """Write the files of a case; the one to check."""
    (folder / "run.yaml").write_text(case.run)
    if case.ablation is None:
        return "run.yaml"
    (folder / "ablation.yaml").write_text(case.ablation)
    return "ablation.yaml"


@pytest.mark.parametrize("case", RUNS + ABLATIONS, ids=lambda case: case.name)
def test_a_broken_configuration_is_told_on_one_screen(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = _write(tmp_path, case)
    assert main(["validate", file, *case.more]) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == ""
    assert any(line.startswith(f"{case.where}: ") for line in lines), said.err
    assert [text for text in case.says if text not in said.err] == [], said.err
    assert len(lines) <= 25
    assert "Traceback" not in said.err
    assert all(line.endswith(".") and len(line) < 400 for line in lines), said.err


def test_there_are_enough_broken_configurations():
    names = [case.name for case in RUNS + ABLATIONS]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize("command", ["train", "ablate"])
@pytest.mark.parametrize("case", [RUNS[0], ABLATIONS[0]], ids=["run", "ablation"])
def test_every_command_tells_it_the_same_way(command, case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = _write(tmp_path, case)
    assert main([command, file, "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert file in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("task: nre\nseed: x\n")
    (tmp_path / "b.yaml").write_text("model: {family: encodr}\nlr: 3\n")
    assert main(["validate", "a.yaml", "b.yaml", "batch_size=no"]) == 2
    said = capsys.readouterr().err
    places = [
        "a.yaml:1: ",
        "a.yaml:2: ",
        "b.yaml:1: ",
        "b.yaml:2: ",
        "batch_size=no: ",
        "a.yaml, b.yaml: data is",
    ]
    assert [place for place in places if place not in said] == []
    assert said.index("a.yaml:1: ") < said.index("a.yaml:2: ")
    assert said.index("b.yaml:1: ") < said.index("b.yaml:2: ")


def test_very_many_mistakes_still_fit_one_screen(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(RUN + "".join(f"wrong_{number}: 1\n" for number in range(70)))
    assert main(["validate", "run.yaml"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == MOST_LINES + 1
    assert lines[-1] == "... and 50 more"


def test_the_good_files_are_good(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _write(tmp_path, Broken("none", "", (), ablation=ABLATION))
    assert main(["validate", "run.yaml", "ablation.yaml"]) == 0
    said = capsys.readouterr()
    assert "1 cell x 2 arms x 3 seeds = 6 runs" in said.out
    assert said.err == ""


def test_an_error_of_the_program_is_not_hidden_as_one_of_the_user(tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("pipelines.actions.validate.validate_command", broken)
    with pytest.raises(ZeroDivisionError):
        main(["validate", "x.yaml"])
    assert issubclass(errors.UserErrors, errors.UserError)
