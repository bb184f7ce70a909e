"""One command per run that any engine may call, any number of times; and what the executors share."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pipelines.ablation.folder import open_ablation
from pipelines.cli.main import main
from pipelines.config.ablation import SlurmConfig
from pipelines.config.load import load_ablation
from pipelines.distributed.stop import StopRequest
from pipelines.errors import UserError
from pipelines.executors import cancellation, retries, slurm_queue
from pipelines.executors.local import LocalExecutor
from pipelines.executors.select import executor_of
from pipelines.executors.slurm import parameters
from pipelines.storage.names import FAILURE, SEAL
from tests.conftest import REPOSITORY
from tests.pipelines.ablation.test_ablation import TINY
from tests.pipelines.actions.test_status import held_elsewhere, states
from tests.pipelines.waiting import SECONDS, wait_for

RESULTS = ("predictions.test.jsonl", "statistics.test.parquet", "statistics.validation.parquet")


def write(folder: Path, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "ablation.yaml"
    file.write_text(yaml.safe_dump(TINY | {"seeds": [1], "keep": "model"} | changes))
    return file


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The file and the folder of an ablation of two runs that was written down and not run."""
    folder = tmp_path_factory.mktemp("prepared")
    file, out = write(folder), folder / "runs" / "toy"
    assert main(["ablate", str(file), "--out", str(out), "--prepare"]) == 0
    return file, out


def names(out: Path) -> dict[str, str]:
    """Folder name of every run, by its arm."""
    return {label.split("/")[1]: name for label, name in json.loads((out / "runs.json").read_text()).items()}


def files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_prepare_prints_a_command_for_each_run_and_runs_none(prepared, capsys):
    file, out = prepared
    assert main(["ablate", str(file), "--out", str(out), "--prepare"]) == 0
    commands = capsys.readouterr().out.splitlines()
    assert set(commands) == {f"attnlab run-cell {out} {name}" for name in names(out).values()}
    assert not any((out.parent / "cells" / name / "manifest.json").exists() for name in names(out).values())


def test_a_run_by_its_command_has_the_bits_of_the_local_executor_and_again_is_no_harm(prepared, tmp_path):
    _, out = prepared
    name = names(out)["gate"]
    folder = out.parent / "cells" / name
    assert main(["run-cell", str(out), name[:6]]) == 0
    before = files(folder)
    assert main(["run-cell", str(out), name]) == 0
    assert {path: when for path, when in files(folder).items() if path != "log.txt"} == {
        path: when for path, when in before.items() if path != "log.txt"
    }
    beside = tmp_path / "runs" / "toy"
    assert main(["ablate", str(write(tmp_path)), "--out", str(beside), "--jobs", "2"]) == 0
    for file in (*RESULTS, "model/model.safetensors"):
        assert (folder / file).read_bytes() == (beside.parent / "cells" / name / file).read_bytes(), file


def test_a_finished_run_leaves_few_files(prepared):
    _, out = prepared
    folder = out.parent / "cells" / names(out)["gate"]
    assert main(["run-cell", str(out), folder.name]) == 0
    found = [path for path in files(folder) if (folder / path).is_file()]
    assert len([path for path in found if not path.startswith("model/")]) <= 11, sorted(found)
    assert len([path for path in found if path.startswith("model/")]) <= 6, sorted(found)


def test_a_run_that_another_process_works_on_is_left_alone(prepared, capsys):
    _, out = prepared
    folder = out.parent / "cells" / names(out)["stock"]
    with held_elsewhere(folder):
        assert main(["run-cell", str(out), folder.name]) == 75
    assert "another process works on it" in capsys.readouterr().err
    assert not (folder / "failure.txt").exists()


def test_the_local_executor_waits_for_a_run_of_another_command_and_says_whose(prepared):
    _, out = prepared
    [cell] = [cell for cell in open_ablation(out).cells if cell.arm == "stock"]
    said, ends, stop = [], [], StopRequest()

    def say(sentence):
        said.append(sentence)
        stop.signal_name = "SIGTERM"

    with held_elsewhere(cell.folder):
        LocalExecutor(1, say).run([cell], stop=stop, on_outcome=lambda *end: ends.append(end))
    [told] = said
    assert re.fullmatch(r"another command works on toy / stock / seed 1 \(process \d+ on .+\); .+", told)
    assert [outcome.reason for _, outcome in ends] == ["not started"]


def test_a_run_that_is_not_the_planned_one_any_more_does_not_start(prepared, tmp_path, capsys):
    """Its data or the source of its variant may change while it waits in a queue."""
    _, out = prepared
    moved = tmp_path / "toy"
    moved.mkdir()
    for name in ("ablation.yaml", "registration.json"):
        (moved / name).write_text((out / name).read_text())
    (moved / "runs.json").write_text(json.dumps({"toy/gate/1": "0123456789abcdef"}))
    assert main(["run-cell", str(moved), "0123"]) == 2
    assert "has changed since attnlab ablate planned it" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["zz", ""])
def test_a_name_that_is_no_run_or_several_is_refused(prepared, name, capsys):
    _, out = prepared
    assert main(["run-cell", str(out), name]) == 2
    assert "have a name that begins with" in capsys.readouterr().err


def test_cancelled_from_another_shell_a_run_saves_and_leaves_and_a_new_start_goes_on(tmp_path):
    cell = TINY["cells"]["toy"][0] | {"num_epochs": 2000, "checkpoint_every_steps": 10_000}
    file, out = write(tmp_path, cells={"toy": [cell]}, arms={"stock": []}), tmp_path / "runs" / "toy"
    command = [sys.executable, "-m", "pipelines", "ablate", str(file), "--out", str(out), "--jobs", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    cells = out.parent / "cells"
    wait_for(lambda: list(cells.glob("*/metrics.jsonl")), process)
    assert main(["status", str(out), "--cancel"]) == 0
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 75, said
    assert "cancelled by attnlab status --cancel" in said
    [stopped] = cells.iterdir()
    assert list(stopped.glob(f"checkpoints/step-*/{SEAL}"))
    assert set(states(out).values()) == {"stopped"}
    assert main(["run-cell", str(out), stopped.name]) == 75  # still cancelled
    assert main(["ablate", str(file), "--out", str(out), "--prepare"]) == 0
    assert not cancellation.is_cancelled(out)


def test_a_run_on_two_processes_is_made_by_any_executor(tmp_path):
    cell = TINY["cells"]["toy"][0] | {"processes": 2, "max_steps": 3, "device": "cpu"}
    file, out = write(tmp_path, cells={"toy": [cell]}, arms={"stock": []}), tmp_path / "runs" / "toy"
    assert main(["ablate", str(file), "--out", str(out)]) == 0
    [folder] = (out.parent / "cells").iterdir()
    assert json.loads((folder / "manifest.json").read_text())["environment"]["processes"] == 2


def test_the_executor_that_the_guide_shows_runs_an_ablation(tmp_path, monkeypatch):
    """docs/clusters.md: its code, over a queue whose workers are `run-cell` in this process."""
    [code] = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "clusters.md").read_text(), re.DOTALL)
    over = {}

    def submit(_, *arguments):
        over[arguments[-1]] = main(list(arguments))

    monkeypatch.setitem(sys.modules, "my_queue", SimpleNamespace(submit=submit, is_over=over.__contains__))
    monkeypatch.setattr("time.sleep", lambda _: None)
    names_of_code: dict = {}
    exec(code, names_of_code)
    monkeypatch.setattr(
        "pipelines.actions.ablate.executor_of", lambda *_, **__: names_of_code["MyExecutor"]()
    )
    cell = TINY["cells"]["toy"][0] | {"max_steps": 2}
    out = tmp_path / "runs" / "toy"
    file = write(tmp_path, cells={"toy": [cell]}, arms={"stock": []})
    assert main(["ablate", str(file), "--out", str(out)]) == 0
    assert set(over.values()) == {0}
    assert set(states(out).values()) == {"finished"}


# ---- the queue


def test_a_run_in_the_queue_is_called_so(prepared):
    file, _ = prepared
    out = file.parent / "runs" / "queued"
    assert main(["ablate", str(file), "--out", str(out), "--prepare"]) == 0
    slurm_queue.remember_jobs(out, {names(out)["stock"]: "17_0"})
    assert states(out)["stock", 1] == "queued"  # this machine has no squeue, or it knows no such job


def test_starts_that_bring_no_checkpoint_are_counted_and_one_that_does_ends_the_count(tmp_path):
    assert [retries.count(tmp_path) for _ in range(3)] == [0, 1, 2]
    checkpoint = tmp_path / "checkpoints" / "step-00000010"
    checkpoint.mkdir(parents=True)
    assert retries.count(tmp_path) == 3  # not sealed
    (checkpoint / SEAL).touch()
    assert [retries.count(tmp_path) for _ in range(2)] == [0, 1]
    retries.forget(tmp_path)
    assert retries.count(tmp_path) == 0


def test_a_run_is_given_up_with_its_reason_when_four_starts_brought_no_checkpoint(tmp_path):
    starts = [retries.is_given_up(tmp_path) for _ in range(retries.MOST_FRUITLESS + 1)]
    assert starts == [False] * retries.MOST_FRUITLESS + [True]
    assert "started 4 times in a row without a new checkpoint" in (tmp_path / FAILURE).read_text()


def test_a_job_asks_for_what_the_file_says():
    settings = SlurmConfig(
        partition="gpu", minutes=30, nodes=2, gpus=1, at_once=4, options={"constraint": "a100"}
    )
    asked = parameters(settings, processes=8, threads=3, name="mine")
    assert (asked["nodes"], asked["ntasks_per_node"], asked["gpus_per_node"]) == (2, 4, 4)
    assert (asked["partition"], asked["time"], asked["array_parallelism"]) == ("gpu", 30, 4)
    assert asked["cpus_per_task"] == 3
    assert asked["additional_parameters"] == {"requeue": True, "constraint": "a100"}
    with pytest.raises(UserError, match="5 processes cannot be divided among 2 nodes"):
        parameters(settings, processes=5, threads=1, name="mine")


def test_without_submitit_a_sentence_says_what_to_install(prepared, monkeypatch, capsys):
    file, out = prepared
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.delitem(sys.modules, "pipelines.executors.slurm")
    assert main(["ablate", str(file), "--out", str(out), "--executor", "slurm"]) == 2
    assert "pip install 'attnlab[slurm]'" in capsys.readouterr().err


def test_where_jobs_cannot_be_submitted_it_says_so(prepared, monkeypatch):
    file, out = prepared
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    with pytest.raises(UserError, match="there is no sbatch here"):
        executor_of(load_ablation(str(file)), out, print, name="slurm", jobs=None)


def test_where_runs_are_made_is_no_part_of_what_is_compared(prepared):
    file, _ = prepared
    here, there = load_ablation(str(file)), load_ablation(str(file), ["executor=slurm", "slurm.minutes=5"])
    assert here.stated() == there.stated()


def test_two_signals_of_different_kinds_are_no_haste():
    stop = StopRequest()
    stop._receive(signal.SIGUSR2, None)
    stop._receive(signal.SIGTERM, None)  # at Slurm's time limit, while the checkpoint is being written
    assert stop.signal_name == "SIGUSR2"
