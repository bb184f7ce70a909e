"""What `ablate` makes of what its Ray driver reports; a real cluster is in tests/test_engines.py."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.ablation.cell import from_plain, to_plain
from pipelines.ablation.folder import open_ablation
from pipelines.cli.main import main
from pipelines.config.engines import RayConfig
from pipelines.distributed.stop import StopRequest
from pipelines.errors import RunFailed, UserError
from pipelines.executors import ray
from pipelines.storage.names import FAILURE
from tests.conftest import REPOSITORY
from tests.pipelines.actions.test_status import held_elsewhere
from tests.pipelines.executors.test_executors import write

RUN = {"processes": 1, "threads": 2}


class Driver:
    """A driver whose tasks end as a test wants: `end(name, number of the try)` gives the reason, or None."""

    nodes = ({"CPU": 8.0, "memory": 1e10},)

    def __init__(self, end):
        self.end, self.submitted, self.has_left, self.looks = end, [], False, 0

    def submit(self, cell, needs):
        self.submitted.append(cell.folder.name)

    def ended(self):
        self.looks += 1
        assert self.looks < 100, "it does not come to an end"
        for name in self.submitted[-1:]:
            yield {"ended": name, "reason": self.end(name, self.submitted.count(name))}

    def leave(self):
        self.has_left = True


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    file, out = write(folder, arms={"stock": []}), folder / "runs" / "toy"
    assert main(["ablate", str(file), "--out", str(out), "--prepare"]) == 0
    return out


@pytest.fixture
def cell(prepared, monkeypatch):
    monkeypatch.setattr(ray.importlib.util, "find_spec", lambda _: True)
    [cell] = open_ablation(prepared).cells
    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / FAILURE).unlink(missing_ok=True)
    return cell


def run(cell, monkeypatch, end, stop=None, said=print, **settings):
    """Run the cell on a cluster of such a driver; how it ended, and the driver."""
    driver, outcomes = Driver(end), []
    monkeypatch.setattr(ray, "Driver", lambda cluster, errors: driver)
    executor = ray.RayExecutor(RayConfig(**settings), cell.ablation, said)
    executor.run([cell], stop=stop or StopRequest(), on_outcome=lambda _, outcome: outcomes.append(outcome))
    assert driver.has_left
    return outcomes, driver


def fails_at(cell, number):
    """The end of tasks without a result until the try of this number, whose run fails."""

    def end(name, tries):
        if tries == number:
            (cell.folder / FAILURE).write_text("data: no such file\n")

    return end


def test_a_task_that_ended_without_a_result_is_submitted_again(cell, monkeypatch):
    [outcome], driver = run(cell, monkeypatch, fails_at(cell, 3))
    assert driver.submitted == [cell.folder.name] * 3
    assert (outcome.status, outcome.reason) == ("failed", "data: no such file")


def test_a_failure_of_an_earlier_start_is_not_that_of_this_one(cell, monkeypatch):
    (cell.folder / FAILURE).write_text("an old reason\n")
    [outcome], driver = run(cell, monkeypatch, fails_at(cell, 2))
    assert (len(driver.submitted), outcome.reason) == (2, "data: no such file")


def test_what_ray_could_not_run_fails_with_its_reason(cell, monkeypatch):
    [outcome], driver = run(cell, monkeypatch, lambda *_: "ModuleNotFoundError: No module named 'pipelines'")
    assert outcome.status == "failed"
    assert outcome.reason == "Ray could not run it: ModuleNotFoundError: No module named 'pipelines'"
    assert len(driver.submitted) == 1


def test_a_run_that_another_process_works_on_is_submitted_when_it_is_free(cell, monkeypatch):
    stop = StopRequest()

    def ended():
        stop.signal_name = "SIGTERM"
        return iter(())

    monkeypatch.setattr(Driver, "ended", lambda self: ended())
    said = []
    with held_elsewhere(cell.folder):
        outcomes, driver = run(cell, monkeypatch, None, stop, said.append)
    assert (outcomes, driver.submitted) == ([], [])
    [told] = said
    assert re.fullmatch(r"another command works on toy / stock / seed 1 \(process \d+ on .+\); .*", told)


def test_a_request_that_no_node_can_fulfil_is_told(cell, monkeypatch):
    said = []
    run(cell, monkeypatch, fails_at(cell, 1), said=said.append, gpus=2, memory_gb=4)
    assert said == ["no node of the Ray cluster has CPU 1, GPU 2, memory 4; these runs wait until one joins"]
    said.clear()
    run(cell, monkeypatch, fails_at(cell, 1), said=said.append, memory_gb=4)
    assert said == []


def test_a_task_asks_for_what_all_processes_of_its_run_need():
    assert ray.needs(RayConfig(), RUN) == {"num_cpus": 2, "num_gpus": 0}
    settings = RayConfig(gpus=1, cpus=3, memory_gb=2.0, resources={"a100": 0.5})
    asked = ray.needs(settings, RUN | {"processes": 4})
    assert asked == {"num_cpus": 12, "num_gpus": 4, "memory": 2e9, "resources": {"a100": 0.5}}


def test_the_runs_get_the_settings_of_this_shell_for_attnlab_and_the_hub(cell, monkeypatch):
    seen = []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("ATTNLAB_MIRROR", "/m")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/only/here")
    monkeypatch.setattr(
        ray, "Driver", lambda cluster, errors: seen.append(cluster) or Driver(fails_at(cell, 1))
    )
    ray.RayExecutor(RayConfig(), cell.ablation, print).run(
        [cell], stop=StopRequest(), on_outcome=lambda *_: None
    )
    environment = seen[0]["task"]["environment"]
    assert (environment["HF_HUB_OFFLINE"], environment["ATTNLAB_MIRROR"]) == ("1", "/m")
    assert "LD_LIBRARY_PATH" not in environment
    assert seen[0]["runtime_env"] == {}  # Ray shows it to everyone; HF_TOKEN is an argument


# ---- the process of the driver


def stand_in(monkeypatch, code: str) -> None:
    """Start another program in place of the driver."""
    monkeypatch.setattr(ray, "python_module", lambda _: [sys.executable, "-c", code])


CLUSTER = {"address": "10.0.0.7:6379", "runtime_env": {}, "task": {}}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit(1)", ""),
        ("""print('{"refused": "ValueError: Invalid address"}')""", ": ValueError: Invalid address"),
        ("import sys; sys.exit('ImportError: libgomp')", ": ImportError: libgomp"),
        ("import sys; sys.exit('[2026-01-01 E] GCS may have been killed, and a long text')", ""),
        ("import time; time.sleep(600)", ""),
    ],
)
def test_a_cluster_that_does_not_answer_is_one_sentence(monkeypatch, tmp_path, code, reason):
    stand_in(monkeypatch, code)
    monkeypatch.setattr(ray, "SECONDS_TO_ANSWER", 5.0)
    with open(tmp_path / "errors", "w+b") as errors, pytest.raises(UserError) as refused:
        ray.Driver(CLUSTER, errors)
    what = f"ray.address: no Ray cluster answers{reason} (got 10.0.0.7:6379); "
    assert str(refused.value) == f"{what}start one (ray start --head), or name its HOST:PORT."


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.parametrize("entry", ["pip: 3", "working_dir: /no/such/folder", "env_vars: {A: 1}"])
def test_a_runtime_environment_that_is_none_of_rays_is_one_sentence(prepared, capfd, entry):
    file = Path(prepared).parents[1] / "ablation.yaml"
    words = ["--executor", "ray", f"ray.runtime_env={{{entry}}}", "ray.address=127.0.0.1:9"]
    assert main(["ablate", str(file), "--out", str(prepared), *words]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("ray.runtime_env: Ray does not take it: "), last


def test_a_cluster_that_is_lost_ends_the_command_with_what_to_do(monkeypatch, tmp_path):
    stand_in(monkeypatch, """print('{"nodes": []}'); print('{"ended": "3f", "reason": null}')""")
    with open(tmp_path / "errors", "w+b") as errors:
        driver, ended = ray.Driver(CLUSTER, errors), []
        with pytest.raises(RunFailed, match="the same command goes on from the checkpoints"):
            ended += itertools.chain.from_iterable(driver.ended() for _ in range(9))
        driver.leave()


def test_without_ray_a_sentence_says_what_to_install(prepared, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "ray" else find(name))
    file = Path(prepared).parents[1] / "ablation.yaml"
    assert main(["ablate", str(file), "--out", str(prepared), "--executor", "ray"]) == 2
    assert "pip install 'attnlab[ray]'" in capsys.readouterr().err


# ---- the driver, on a module in place of Ray that prints as much as Ray does

NOISY_RAY = r"""
import concurrent.futures, os
pool = concurrent.futures.ThreadPoolExecutor()
def init(**_):
    print("Ray logs a line")
    os.write(1, b"and its C++ part another\n")
def nodes(): return [{"Resources": {"CPU": 2.0}, "Alive": True}]
def cancel(task): pass
def shutdown(): print("gone")
class Task:
    def __init__(self, run, **_): self.run = run
    def future(self): return pool.submit(self.end)
    def end(self):
        print("a worker has died")
        if self.run["folder"] == "second": raise ValueError("no module. And a long text")
class Remote:
    def options(self, **_): return self
    def remote(self, **named): return Task(**named)
def remote(**_): return lambda function: Remote()
"""


def test_what_ray_prints_is_no_report_of_a_run(tmp_path):
    (tmp_path / "ray.py").write_text(NOISY_RAY)
    told = [CLUSTER | {"task": {"here": ".", "environment": {}}}]
    told += [{"name": name, "needs": {}, "cell": {"folder": name}} for name in ("first", "second")]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.executors.ray_driver"],
        input="".join(f"{json.dumps(line)}\n" for line in told),
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    nodes, *ended = map(json.loads, done.stdout.splitlines())
    assert nodes == {"nodes": [{"CPU": 2.0}]}
    assert sorted(ended, key=lambda line: line["ended"]) == [
        {"ended": "first", "reason": None},
        {"ended": "second", "reason": "ValueError: no module"},
    ]
    assert "a worker has died" in done.stderr


def test_a_cell_arrives_on_a_node_as_it_was_sent(cell):
    sent = from_plain(json.loads(json.dumps(to_plain(cell))))
    assert vars(sent) == vars(cell) | {
        "folder": cell.folder.absolute(),
        "ablation": cell.ablation.absolute(),
    }
