"""The command answers at once, imports nothing heavy to check a file, and leaves with the right status."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement

from pipelines.actions import doctor, presets
from pipelines.actions.init import starter
from pipelines.actions.init_model import MODELS, able_models
from pipelines.cli import main as cli
from pipelines.cli.main import COMMANDS, main
from pipelines.config.load import load_run
from pipelines.config.run import RunConfig
from pipelines.errors import Interrupted, RunFailed, UserError
from pipelines.registry.catalog import TASK, find, names

REPOSITORY = Path(__file__).parents[3]
HEAVY = {"torch", "transformers", "numpy", "datasets", "accelerate", "pyarrow", "scipy", "evaluate"}
RUN = """\
task: ner
data: {generated: {name: ner, train: 70, validation: 30}}
model: {architecture: bert, family: encoder}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "ablation.yaml").write_text(
        "cells: {a: run.yaml}\narms: {stock: [], gate: [gate]}\nseeds: [1]\n"
    )
    return tmp_path


def _cli(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pipelines", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=REPOSITORY, **options)


def _imported(*arguments: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    script = (
        "import sys, io, contextlib\n"
        "from pipelines.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    main({list(arguments)!r})\n"
        "print('\\n'.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "arguments",
    [
        ("validate", "configs/quickstart.yaml"),
        ("ls", "variants"),
        ("ls", "tasks"),
        ("ls", "configs"),
        ("init", "--model", "t5"),
        ("predict", "no-such-run", "--input", "lines.txt"),
        ("evaluate", "no-such-run"),
        ("generate", "no-such-run"),
        ("show", "no-such-run", "--input", "a line"),
        ("fold", "no-such-run", "folded"),
    ],
    ids=" ".join,
)
def test_looking_and_checking_import_nothing_heavy(arguments):
    assert _imported(*arguments) & HEAVY == set()


def test_help_imports_the_standard_library_alone():
    assert _imported("--help") & (HEAVY | {"pydantic", "yaml", "rich"}) == set()


@pytest.mark.parametrize(
    ("arguments", "needed", "times"),
    [(["--help"], "argparse", 6), (["validate", "configs/quickstart.yaml"], "pydantic, yaml", 8)],
)
def test_it_answers_about_as_fast_as_its_imports(arguments, needed, times):
    """CPU time as a multiple of that of the imports it needs, so that the machine's speed does not matter;
    measured 2.6 and 3.5. The seconds themselves are in scripts/bench."""
    answer = _cpu_seconds("-m", "pipelines", *arguments)
    assert answer <= times * _cpu_seconds("-c", f"import {needed}")


def _cpu_seconds(*arguments: str) -> float:
    """CPU time of a Python process, the least of three."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=REPOSITORY)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


def test_without_a_command_it_names_five_to_start_with(capsys):
    assert main([]) == 2
    said = capsys.readouterr().out
    assert re.findall(r"^  (\w+) ", said, re.MULTILINE) == ["init", "validate", "train", "ablate", "report"]
    assert re.findall(r"^ +attnlab (\w+) ", said, re.MULTILINE) == [
        "init",
        "validate",
        "train",
        "ablate",
        "report",
    ]
    assert "attnlab --help lists all commands" in said
    assert len(said.splitlines()) < 20
    with pytest.raises(SystemExit) as ended:
        main(["no-such-command"])
    assert ended.value.code == 2


def test_help_names_every_command_and_each_explains_itself(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert [command.name for command in COMMANDS if command.name not in said] == []
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command.name, "--help"])
        assert command.example in re.sub(r"\s+", " ", capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments",
    [
        ["tarin"],
        ["train"],
        ["ls", "varaints"],
        ["ablate", "x.yaml", "--jobs", "0"],
        ["validate", "x.yaml", "--job"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_2_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("usage: attnlab")


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (UserError("a.yaml:3", "no"), 2, "a.yaml:3: no.\n"),
        (RunFailed("the disk is full"), 1, "the disk is full\n"),
        (Interrupted("stopped at step 4"), 75, "stopped at step 4\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_how_a_command_ended_is_its_exit_status(raised, status, said, monkeypatch, capsys):
    def run(*_):
        raise raised

    monkeypatch.setattr("pipelines.actions.validate.validate_command", run)
    assert main(["validate", "x.yaml"]) == status
    assert capsys.readouterr().err == said


def test_train_hands_over_what_was_asked(folder, monkeypatch):
    seen = []
    monkeypatch.setattr("pipelines.actions.train.train", lambda *given: seen.append(given))
    assert main(["train", "run.yaml", "--out", "here", "seed=7", "num_epochs=2"]) == 0
    assert main(["train", "run.yaml", "seed=8"]) == 0
    assert seen == [
        (load_run(["run.yaml"], ["seed=7", "num_epochs=2"]), "here"),
        (load_run(["run.yaml"], ["seed=8"]), os.path.join("runs", "run")),
    ]


def test_fresh_removes_a_run_and_nothing_else(folder, monkeypatch, capsys):
    monkeypatch.setattr("pipelines.actions.train.train", lambda *_: None)
    for name, file in (("run", "identity.json"), ("thesis", "chapter1.tex"), ("conf", "run.yaml")):
        (folder / name).mkdir()
        (folder / name / file).write_text(RUN)
    assert main(["train", "run.yaml", "--fresh", "--out", "run"]) == 0
    assert not (folder / "run").exists()
    assert main(["train", "run.yaml", "--fresh", "--out", "thesis"]) == 2
    assert "thesis: is no run folder" in capsys.readouterr().err
    assert main(["train", "conf/run.yaml", "--fresh", "--out", "conf"]) == 2  # the user's own, no run's
    assert (folder / "thesis" / "chapter1.tex").exists()
    assert (folder / "conf" / "run.yaml").exists()
    assert main(["train", "run.yaml", "--fresh", "--out", "new"]) == 0


@pytest.mark.parametrize("out", [".", "..", "../..", "link"])
@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
def test_a_run_is_not_made_where_the_user_works(folder, monkeypatch, capsys, out, fresh):
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "link").symlink_to(folder)
    (folder / "deep" / "identity.json").write_text("{}")
    monkeypatch.chdir(folder / "deep" / "er")
    before = sorted(folder.rglob("*"))
    assert main(["train", str(folder / "run.yaml"), "--out", out, *fresh]) == 2
    assert "is the working folder or holds it" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_ablate_hands_over_what_was_asked(folder, monkeypatch, capsys):
    seen = []
    stand_in = _module(ablate_command=lambda *given, **options: seen.append((*given, options)))
    monkeypatch.setitem(sys.modules, "pipelines.actions.ablate", stand_in)
    asked = ["seeds=[3]", "slurm.partition=gpu", "--jobs", "2", "--executor", "slurm", "--dry-run"]
    assert main(["ablate", "ablation.yaml", *asked]) == 0
    [(config, out, options)] = seen
    assert (config.seeds, config.slurm.partition, out) == ((3,), "gpu", os.path.join("runs", "ablation"))
    wanted = {"jobs": 2, "executor": "slurm", "fresh": False, "dry_run": True, "prepare": False}
    wanted |= {"expect": None}
    assert options == wanted
    assert "runs/ablation" in capsys.readouterr().err


def _module(**functions) -> ModuleType:
    stand_in = ModuleType("stand_in")
    vars(stand_in).update(functions)
    return stand_in


def test_runs_and_ablations_are_not_taken_for_each_other(folder, capsys):
    assert main(["train", "ablation.yaml"]) == 2
    assert "use attnlab ablate ablation.yaml" in capsys.readouterr().err
    assert main(["ablate", "run.yaml"]) == 2
    assert "use attnlab train" in capsys.readouterr().err
    assert main(["ablate", "ablation.yaml", "run.yaml"]) == 2
    assert "one ablation file" in capsys.readouterr().err


def test_a_file_whose_name_holds_an_equals_sign_is_a_file(folder, capsys):
    (folder / "lr=3.yaml").write_text("learning_rate: 3e-5")
    assert main(["validate", "run.yaml", "lr=3.yaml"]) == 0
    assert "learning rate 3e-05" in capsys.readouterr().out


def test_validate_says_what_limits_the_verdict(folder, capsys):
    assert main(["validate", "ablation.yaml", "arms.twin=[gate]"]) == 0
    said = capsys.readouterr().out
    for note in ("no verdict", "no margin", "arms gate and twin are the same run"):
        assert note in said


def test_a_closed_pipe_is_no_error(folder):
    command = f"{sys.executable} -m pipelines ls configs {REPOSITORY}/configs | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr


# ---- init


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("task", names(TASK))
def test_what_init_prints_is_complete_and_valid_as_printed(task, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if model not in able_models(find(TASK, task)):
        assert main(["init", "--task", task, "--model", model]) == 2
        assert f"{model} cannot learn {task}" in capsys.readouterr().err
        return
    assert main(["init", "--task", task, "--model", model]) == 0
    text = capsys.readouterr().out
    (tmp_path / "my.yaml").write_text(text)
    if "generated: null" in text:
        for name in ("train", "validation"):  # the example's files stand for the user's own
            (tmp_path / task).mkdir(exist_ok=True)
            (tmp_path / task / f"{name}.jsonl").write_text("")
    assert main(["validate", "my.yaml"]) == 0
    values = yaml.safe_load(text)
    assert values.keys() == RunConfig.model_fields.keys()
    for section in ("data", "model", "where"):
        assert values[section].keys() == RunConfig.model_fields[section].annotation.model_fields.keys()


def test_every_line_of_init_explains_itself():
    lines = starter("ner", "bert").splitlines()
    bare = [line for before, line in zip(["", *lines], lines) if ":" in line and "#" not in line + before]
    assert bare == []
    assert max(map(len, lines)) <= 160


def test_init_refuses_what_it_does_not_know(capsys):
    assert main(["init", "--task", "nre"]) == 2
    assert "perhaps ner was meant" in capsys.readouterr().err
    assert main(["init", "--model", "brt"]) == 2
    assert "perhaps bert was meant" in capsys.readouterr().err


# ---- ls


def test_ls_configs_reads_the_first_comment(folder, capsys):
    (folder / "configs").mkdir()
    (folder / "configs" / "a.yaml").write_text("# yaml-language-server: $schema=x\n# What it is.\narms: {}\n")
    (folder / "configs" / "b.yaml").write_text("a: [\n")
    (folder / "configs" / "c.yaml").write_text("compute_environment: LOCAL_MACHINE\n")
    assert main(["ls", "configs"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"a\.yaml +ablation +What it is\.", said)
    assert re.search(r"b\.yaml +broken", said)
    assert re.search(r"c\.yaml +other", said)


def test_ls_runs_shows_scores_and_survives_a_broken_manifest(folder, capsys):
    manifest = {
        "status": "finished", "task": "ner", "model_name": "/models/minilm", "primary": "f1",
        "config": {"attention": [{"temperature": {"per": "head"}}, "gate"], "seed": 3},
        "scores": {"validation": {"f1": 55.128, "f1_strict": 50.0}},
    }  # fmt: skip
    for name, text in (("one", json.dumps(manifest)), ("two", "{")):
        (folder / "runs" / name).mkdir(parents=True)
        (folder / "runs" / name / "manifest.json").write_text(text)
    assert main(["ls", "runs"]) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"one +finished +ner +minilm +temperature \(per head\) \+ gate +3 +validation f1 55\.13", said
    )
    assert "unreadable" in said


def test_ls_of_a_missing_folder_is_told(folder, capsys):
    assert main(["ls", "runs", "nowhere"]) == 2
    assert "nowhere: is not a folder" in capsys.readouterr().err


def test_a_variant_beside_the_users_yaml_is_found(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (folder / "mine.py").write_text(
        "from custom_attention.variant import Variant\n"
        "class Mine(Variant):\n    def __init__(self, site, *, power: int = 2): ...\n"
    )
    assert main(["validate", "run.yaml", "attention=[{mine:Mine: {power: 3}}]"]) == 0
    assert main(["validate", "run.yaml", "attention=[{'mine:Mine': {powr: 3}}]"]) == 2
    assert "perhaps power was meant" in capsys.readouterr().err


def test_the_exit_statuses_are_those_of_the_contract():
    assert (cli.EXIT_FAILED, cli.EXIT_USER, cli.EXIT_INTERRUPTED) == (1, 2, 75)


def test_ls_configs_lists_those_of_attnlab_beside_the_folder_s_own(folder, capsys):
    assert main(["ls", "configs"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^task/ner-generated +run +", said, re.MULTILINE)


@pytest.mark.parametrize("name", presets.names())
def test_every_config_is_printed_complete(name):
    printed = yaml.safe_load(presets.preset(name))
    kept = yaml.safe_load(presets.names()[name].read_text())
    assert printed.keys() == kept.keys()
    for cell in (printed.get("cells") or {}).values():
        assert cell.keys() >= {"task", "data", "model"}


def test_a_name_that_two_configs_have_is_refused(capsys):
    assert main(["init", "--from", "ner-wnut17"]) == 2
    assert "one of ablation/ner-wnut17, task/ner-wnut17" in capsys.readouterr().err
    assert main(["init", "--from", "quickstart", "--ablation"]) == 2
    assert "--ablation: cannot be used with --from" in capsys.readouterr().err


# ---- doctor


def test_doctor_names_what_is_missing_and_its_command(monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecretsecret")
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "present (not shown)" in said
    assert "secret" not in said
    real = doctor.metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "0.1" if name == "scipy" else real(name))
    monkeypatch.setattr(
        doctor, "_all_requirements", lambda: [Requirement("scipy>=1.17"), Requirement("not-there")]
    )
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "0.1 is installed, >=1.17 is needed; pip install 'scipy>=1.17'" in said
    assert "not installed; pip install 'not-there'" in said
