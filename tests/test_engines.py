"""What every place for runs must do: the same nine runs, disturbed, end with the bits of undisturbed ones.

    python -m pytest tests/test_engines.py -rs       all of them; -k slurm: one

Each place is started for real on this machine, and skipped with the reason where it cannot be.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import yaml

from pipelines.ablation.folder import open_ablation
from pipelines.cli.main import main
from pipelines.storage.lock import _lease, is_held
from pipelines.storage.names import LOCK, LOG, RUN
from tests.conftest import REPOSITORY
from tests.engines import ENGINES, Engine
from tests.grid_engine import grid_engine
from tests.pipelines.ablation.test_ablation import TINY
from tests.pipelines.actions.test_status import states
from tests.pipelines.waiting import wait_for

# A gain that is slow while a file exists. It computes the same numbers.
SLOW = """
import os
import time
from pathlib import Path
import torch
from custom_attention.variant import Variant

class Slow(Variant):
    starts_as_stock = True

    def __init__(self, site):
        super().__init__(site)
        self.gain = torch.nn.Parameter(torch.zeros(()))

    def output(self, output, call):
        if Path(os.environ["ATTNLAB_SLOWLY"]).exists():
            time.sleep(1.0)
        return output * (1 + self.gain)
"""
STOPPED = re.compile(r"^stopped (?:at step|while evaluating)", re.MULTILINE)
ARMS = {
    "slow": ["slow:Slow"],
    "stock": [],
    "wild": {"attention": [], "set": {"learning_rate": 1e30, "max_grad_norm": None}},
}


class Ablation:
    """Nine runs in a folder of their own, and the command that makes them in one place."""

    def __init__(self, folder: Path, engine: Engine, **changes) -> None:
        self.folder, self.engine, self.slowly = folder, engine, folder / "slowly"
        self.out = folder / "runs" / "toy"
        folder.mkdir()
        (folder / "slow.py").write_text(SLOW)
        cell = TINY["cells"]["toy"][0] | {"num_epochs": 4, "eval_every_steps": 16}
        values = TINY | {"cells": {"toy": [cell]}, "arms": ARMS, "keep": "model"} | changes
        (folder / "ablation.yaml").write_text(yaml.safe_dump(values))
        self.logs: dict[int, Path] = {}  # what each command said, by its process

    def environment(self) -> dict[str, str]:
        ours = {"PYTHONPATH": f"{REPOSITORY}:{self.folder}", "ATTNLAB_SLOWLY": str(self.slowly)}
        return self.engine.environment | ours

    def start(self, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "pipelines", "ablate", "ablation.yaml", "--out", "runs/toy"]
        log = self.folder / f"said-{len(self.logs)}.txt"
        with open(log, "wb") as said:
            process = subprocess.Popen(
                [*command, *(options or self.engine.options)],
                cwd=self.folder,
                env=os.environ | self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        self.logs[process.pid] = log
        process.communicate = lambda *_: (log.read_text(), "")  # what `wait_for` shows of an early end
        return process

    def said(self, process: subprocess.Popen) -> str:
        """What a command has said so far."""
        return self.logs[process.pid].read_text()

    def ends(self, process: subprocess.Popen) -> tuple[int, str]:
        """Wait for the command; return its exit status and what it said."""

        def is_over() -> bool:
            self.engine.hurry()
            return process.poll() is not None

        wait_for(is_over, _Patient(process))
        return process.returncode, self.said(process)

    @property
    def runs(self) -> dict[tuple[str, int], Path]:
        return {(cell.arm, cell.seed): cell.folder for cell in open_ablation(self.out).cells}

    def results(self) -> dict[tuple[str, int], dict[str, str]]:
        """The hashes of what each run came to: its status, predictions, statistics and weights."""
        manifests = {key: json.loads((run / "manifest.json").read_text()) for key, run in self.runs.items()}
        return {
            key: {"status": manifest["status"]}
            | {
                name: digest
                for name, digest in manifest["files"].items()
                if name.startswith(("predictions", "statistics", "model/"))
            }
            for key, manifest in manifests.items()
        }


class _Patient:
    """A process whose end is what is waited for, and no fault."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.communicate = process.communicate

    def poll(self) -> None:
        return None


def is_at_work(run: Path) -> bool:
    return any(run.glob("checkpoints/step-*/seal.json")) and (run / LOCK).exists()


def worker_of(run: Path) -> int:
    """Id of the process that works on a run."""
    owner = _lease(run / LOCK).owner
    assert owner is not None
    return owner.pid


def said(run: Path) -> str:
    return (run / LOG).read_text() if (run / LOG).exists() else ""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict:
    """What the nine runs come to on this machine when nothing happens."""
    ablation = Ablation(tmp_path_factory.mktemp("undisturbed") / "work", Engine(("--jobs", "2")))
    status, text = ablation.ends(ablation.start())
    assert status == 0, text
    return ablation.results()


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, tmp_path_factory):
    with ExitStack() as stack:
        yield stack.enter_context(ENGINES[request.param](tmp_path_factory.mktemp(request.param)))


def test_nine_runs_disturbed_in_every_way_end_with_the_bits_of_undisturbed_ones(
    engine, undisturbed, tmp_path
):
    """One is preempted, one killed, one cancelled at work, one refused; three diverge."""
    ablation = Ablation(tmp_path / "work", engine)
    assert ablation.ends(ablation.start(*engine.options, "--prepare"))[0] == 0
    preempted, killed, cancelled = (ablation.runs["slow", seed] for seed in (1, 2, 3))
    refused = ablation.runs["stock", 3]
    refused.mkdir(parents=True)
    (refused / RUN).write_text("seed: 4\n")  # a folder of another run: it must not be touched

    ablation.slowly.touch()
    process = ablation.start()
    wait_for(lambda: is_at_work(preempted), process)
    os.kill(worker_of(preempted), signal.SIGTERM)
    wait_for(lambda: is_at_work(killed), process)
    os.kill(worker_of(killed), signal.SIGKILL)
    wait_for(lambda: STOPPED.search(said(preempted)) and is_at_work(cancelled), process)
    assert main(["status", str(ablation.out), "--cancel"]) == 0
    status, text = ablation.ends(process)
    assert status == 75, text
    assert text.splitlines()[-1].startswith("cancelled by attnlab status --cancel"), text
    wait_for(lambda: "running" not in states(ablation.out).values(), _Patient(process))

    ablation.slowly.unlink()
    status, text = ablation.ends(ablation.start())
    assert status == 1, text
    assert "1 run failed: toy / stock / seed 3: " in text.splitlines()[-1], text
    assert "Traceback" not in text
    for run in (preempted, killed, cancelled):
        assert "resumed at step" in said(run)
    assert (refused / RUN).read_text() == "seed: 4\n"

    for path in refused.iterdir():
        path.unlink()
    status, text = ablation.ends(ablation.start())
    assert status == 0, text
    assert ablation.results() == undisturbed
    failures = json.loads((ablation.out / "results.json").read_text())["failures"]
    assert [failure["status"] for failure in failures] == ["diverged"] * 3


@pytest.mark.parametrize("engine", ["ray"], indirect=True)
def test_a_lost_worker_node_driver_and_head_of_ray_change_no_bit(engine, undisturbed, tmp_path):
    ablation = Ablation(tmp_path / "work", engine, arms={"slow": ARMS["slow"], "stock": []}, seeds=[1, 2])
    assert ablation.ends(ablation.start("--prepare"))[0] == 0
    first, second = (ablation.runs["slow", seed] for seed in (1, 2))
    head, node = engine.ray.nodes

    ablation.slowly.touch()
    process = ablation.start()
    wait_for(lambda: is_at_work(first), process)
    fork_server = psutil.Process(worker_of(first)).parent()
    fork_server.parent().kill()
    wait_for(lambda: "resumed at step" in said(first), process)

    def at_work_on_the_node() -> list[Path]:
        pids = {one.pid for one in node.processes()}
        return [run for run in (first, second) if is_at_work(run) and worker_of(run) in pids]

    wait_for(at_work_on_the_node, process)
    [lost] = at_work_on_the_node()
    before = said(lost).count("resumed at step")
    node.kill()
    engine.ray.nodes.remove(node)
    engine.ray.add_node()
    wait_for(lambda: said(lost).count("resumed at step") > before and is_at_work(lost), process)

    process.kill()
    wait_for(lambda: not any(is_held(run / LOCK) for run in (first, second)), _Patient(process))
    process = ablation.start()
    wait_for(lambda: any(is_held(run / LOCK) for run in (first, second)), process)
    head.kill()
    status, text = ablation.ends(process)
    assert status == 1, text
    assert re.fullmatch(
        r"ray: the cluster at [\d.:]+ is lost; when it answers again, .*", text.splitlines()[-1]
    ), text
    status, text = ablation.ends(ablation.start())
    assert status == 2, text
    assert text.splitlines()[-1].startswith("ray.address: no Ray cluster answers"), text

    engine.ray.start_head()
    engine.ray.wait()
    engine.ray.add_node()
    engine.ray.wait()
    ablation.slowly.unlink()
    status, text = ablation.ends(ablation.start())
    assert status == 0, text
    assert any("resumed at step" in said(run) for run in (first, second))
    assert ablation.results() == {key: undisturbed[key] for key in ablation.runs}


@pytest.mark.parametrize("engine", ["ray"], indirect=True)
def test_of_two_commands_on_one_ray_cluster_one_may_leave_and_each_run_is_made_once(
    engine, undisturbed, tmp_path
):
    ablation = Ablation(tmp_path / "work", engine, arms={"slow": ARMS["slow"], "stock": []}, seeds=[1, 2])
    ablation.slowly.touch()
    leaves = ablation.start()
    wait_for(lambda: (ablation.out / "runs.json").exists(), leaves)
    wait_for(lambda: all(is_at_work(ablation.runs["slow", seed]) for seed in (1, 2)), leaves)
    stays = ablation.start()
    wait_for(lambda: "another command works on" in ablation.said(stays), stays)
    assert re.search(r"works on toy / slow / seed [12] \(process \d+ on ", ablation.said(stays))
    leaves.send_signal(signal.SIGINT)
    status, text = ablation.ends(leaves)
    assert status == 75, text
    assert text.splitlines()[-1].startswith("stopped by SIGINT; its runs have saved a checkpoint"), text
    ablation.slowly.unlink()
    status, text = ablation.ends(stays)
    assert status == 0, text
    assert ablation.results() == {key: undisturbed[key] for key in ablation.runs}
    for run in ablation.runs.values():
        assert len(re.findall(r"^test: ", said(run), re.MULTILINE)) <= 1, said(run)


@pytest.mark.parametrize("engine", ["ray"], indirect=True)
def test_nodes_of_ray_that_share_no_folder_make_the_runs_with_the_same_bits(engine, undisturbed, tmp_path):
    """A node is lost with its scratch while it works; another goes on from the store."""
    store = tmp_path / "store"
    arms = {"slow": ARMS["slow"], "stock": []}
    ablation = Ablation(tmp_path / "work", engine, arms=arms, seeds=[1, 2], store=f"file://{store}")
    ablation.slowly.touch()
    process = ablation.start()
    node = engine.ray.nodes[-1]

    def at_work_on_the_node() -> list[str]:
        pids = {one.pid for one in node.processes()}
        leases = [
            path for path in store.glob("cells/*/lease.json") if (path.parent / "saved-0.json").exists()
        ]
        return [
            path.parent.name for path in leases if json.loads(path.read_text() or "{}").get("pid") in pids
        ]

    wait_for(at_work_on_the_node, process)
    [lost] = at_work_on_the_node()
    node.kill()
    engine.ray.nodes.remove(node)
    shutil.rmtree(node.scratch)
    engine.ray.add_node()
    log = store / "cells" / lost / LOG
    wait_for(lambda: log.exists() and "resumed at step" in log.read_text(), process)
    ablation.slowly.unlink()
    status, text = ablation.ends(process)
    assert status == 0, text
    assert ablation.results() == {key: undisturbed[key] for key in ablation.runs}
    assert not any(run.joinpath("checkpoints").exists() for run in ablation.runs.values())


def test_a_grid_by_the_lines_of_the_guide_for_grid_engine_has_the_same_bits(undisturbed, tmp_path):
    """docs/clusters.md: a preempted run is started again, a killed one by the next submission."""
    page = (REPOSITORY / "docs" / "clusters.md").read_text()
    blocks = re.findall(r"```sh\n([^`]*)```", page)
    [submit] = [block for block in blocks if "qsub" in block]
    [script] = [block for block in blocks if "SGE_TASK_ID" in block]
    with grid_engine(tmp_path / "sge") as cluster:
        ablation = Ablation(tmp_path / "work", Engine(()))
        (ablation.folder / "run.sh").write_text(script)
        (ablation.folder / "submit.sh").write_text(submit)
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = ablation.environment() | {"PATH": programs}

        def submit_missing() -> None:
            cluster.run("sh", "submit.sh", folder=ablation.folder, **environment)

        def is_over() -> bool:
            return not cluster.run("qstat")

        ablation.slowly.touch()
        submit_missing()
        master = cluster.daemons[0]
        preempted, killed = (ablation.runs["slow", seed] for seed in (1, 2))
        wait_for(lambda: is_at_work(preempted), master)
        os.kill(worker_of(preempted), signal.SIGTERM)
        wait_for(lambda: is_at_work(killed), master)
        os.kill(worker_of(killed), signal.SIGKILL)
        wait_for(lambda: "resumed at step" in said(preempted), master)
        ablation.slowly.unlink()
        wait_for(is_over, master)
        missing = [run for run in ablation.runs.values() if not (run / "manifest.json").exists()]
        assert missing == [killed]
        submit_missing()
        wait_for(is_over, master)
    assert "resumed at step" in said(killed)
    assert ablation.results() == undisturbed
