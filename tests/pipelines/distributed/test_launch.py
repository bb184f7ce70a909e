"""Every launcher starts the same run: accelerate launch, torchrun on one host and on two, and our own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from pipelines.config.load import run_from_dict
from pipelines.distributed import launch
from pipelines.distributed.stop import EXIT_INTERRUPTED
from pipelines.runs.execute import execute
from pipelines.storage.lock import is_held
from pipelines.storage.run_folder import RunFolder
from pipelines.train.progress import Reporter
from tests.pipelines.train.harness import REAL, run_ranks
from tests.pipelines.waiting import SECONDS, children, wait_for

REPOSITORY = Path(__file__).parents[3]
OURS = [sys.executable, "-m", "pipelines"]
# The commands torchrun and accelerate launch, of this environment.
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
TWO = {**REAL, "processes": 2, "diagnostics_every_steps": None}


def execute_two(folder):
    execute(run_from_dict(TWO), RunFolder(folder), folder.parent / "cache", Reporter(enabled=False))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run on two ranks of the test harness."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run_ranks(execute_two, 2, folder) == [0, 0]
    return folder


@pytest.fixture
def arguments(tmp_path):
    """Of the command that trains it into `tmp_path / "run"`."""
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(TWO))
    return ["train", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run")]


def environment(**more):
    inherited = {k: v for k, v in os.environ.items() if k not in ("RANK", "MASTER_ADDR", "MASTER_PORT")}
    return inherited | {"OMP_NUM_THREADS": "1", **more}


def start(command, **more):
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(*processes):
    """What they say, when each has left with 0."""
    said = [process.communicate(timeout=SECONDS)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)
    return said


def assert_same_run(folder, whole):
    assert (folder / "model/model.safetensors").read_bytes() == (
        whole / "model/model.safetensors"
    ).read_bytes()
    ours, theirs = (json.loads((path / "manifest.json").read_text()) for path in (folder, whole))
    assert ours["scores"] == theirs["scores"]
    assert ours["environment"] == theirs["environment"]
    assert ours["environment"]["processes"] == 2
    assert ours["environment"]["threads"] == 1


def free_port():
    return str(launch.free_port())


@pytest.mark.parametrize(
    "preset", sorted((REPOSITORY / "configs/launch").glob("*.yaml")), ids=lambda p: p.stem
)
def test_a_preset_is_one_and_its_command_asks_for_as_many_processes_as_it_starts(preset):
    from accelerate.commands.config.config_args import load_config_from_file

    text = preset.read_text()
    stated = load_config_from_file(str(preset))
    header = " ".join(
        line.removeprefix("#").strip(" \\") for line in text.splitlines() if line.startswith("#")
    )
    assert f"accelerate launch --config_file configs/launch/{preset.name}" in header
    asked = re.search(r"-m pipelines train RUN.yaml (?:processes=(\d+) )?", header)[1] or "1"
    started = re.search(r"--num_processes (\d+)", header)
    assert int(asked) == int(started[1] if started else stated.num_processes)
    assert stated.mixed_precision == "no"


def test_asked_to_stop_while_it_starts_and_while_it_trains_our_launcher_says_75_and_accelerate_goes_on(
    whole, arguments, tmp_path
):
    starting = start([*OURS, *arguments])
    wait_for(lambda: len(children(starting)) == 2, starting)  # the ranks import for seconds
    starting.send_signal(signal.SIGTERM)
    said = starting.communicate(timeout=SECONDS)[0]
    assert starting.returncode == EXIT_INTERRUPTED, said

    training = start([*OURS, *arguments])
    wait_for(lambda: list((tmp_path / "run" / "checkpoints").glob("step-*/seal.json")), training)
    training.send_signal(signal.SIGHUP)
    said = training.communicate(timeout=SECONDS)[0]
    assert training.returncode == EXIT_INTERRUPTED, said
    assert "start the same command again" in said

    launcher = [*ACCELERATE, "--config_file", "configs/launch/cpu.yaml", "--main_process_port", free_port()]
    [said] = end(start([*launcher, "-m", "pipelines", *arguments], ACCELERATE_USE_CPU="true"))
    assert "resumed at step" in said
    assert_same_run(tmp_path / "run", whole)


def test_ranks_whose_launcher_was_killed_end_the_run_and_no_other_start_works_beside_them(
    whole, arguments, tmp_path
):
    launched, folder = start([*OURS, *arguments, "num_epochs=400"]), tmp_path / "run"
    wait_for(lambda: list((folder / "checkpoints").glob("step-*/seal.json")), launched)
    launched.kill()
    launched.wait()
    second = start([*OURS, *arguments, "num_epochs=400"])
    said = second.communicate(timeout=SECONDS)[0]
    assert second.returncode == 1, said
    holder = re.search(r"is in use by process (\d+) on ", said)
    assert holder, said
    os.kill(int(holder[1]), signal.SIGTERM)  # one rank; the other leaves with it
    deadline = time.monotonic() + SECONDS
    while is_held(folder / ".lock"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (folder / "manifest.json").exists()


def test_torchrun_starts_the_same_run(whole, arguments, tmp_path):
    torchrun = [*TORCHRUN, "--nproc-per-node", "2", "--master-port", free_port()]
    end(start([*torchrun, "-m", "pipelines", *arguments]))
    assert_same_run(tmp_path / "run", whole)


def test_accelerate_launch_that_starts_one_process_of_two_is_refused(arguments, tmp_path):
    """`--cpu --num_processes 2` starts one and says nothing."""
    launcher = [*ACCELERATE, "--cpu", "--num_processes", "2", "--main_process_port", free_port()]
    refused = start([*launcher, "-m", "pipelines", *arguments, "processes=1"])
    said = refused.communicate(timeout=SECONDS)[0]
    assert refused.returncode != 0
    assert "was asked for several processes and started one" in said
    assert not (tmp_path / "run" / "manifest.json").exists()


# ---- two hosts
@contextmanager
def two_hosts():
    """Two network namespaces joined by a cable: (name, device, address) of each."""
    tag = f"a{os.getpid() % 100_000}"
    hosts = [(f"{tag}-{n}", f"{tag}v{n}", f"10.77.0.{n}") for n in (1, 2)]

    def ip(*words):
        return subprocess.run(["ip", *words], capture_output=True, text=True)

    made = [ip("netns", "add", name) for name, _, _ in hosts]
    made.append(ip("link", "add", hosts[0][1], "type", "veth", "peer", "name", hosts[1][1]))
    try:
        for failed in (done for done in made if done.returncode):
            pytest.skip(f"no network namespace can be made here: {failed.stderr.strip()}")
        for name, device, address in hosts:
            ip("link", "set", device, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
            for one in (device, "lo"):
                assert ip("-n", name, "link", "set", one, "up").returncode == 0
        yield hosts
    finally:
        for name, _, _ in hosts:
            ip("netns", "del", name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces")
@pytest.mark.skipif(shutil.which("ip") is None, reason="needs the Debian package iproute2")
def test_two_hosts_end_in_the_bits_of_two_local_processes(whole, arguments, tmp_path):
    with two_hosts() as hosts:
        [(_, _, first), _] = hosts
        together = [
            "--nnodes",
            "2",
            "--nproc-per-node",
            "1",
            "--master-addr",
            first,
            "--master-port",
            "29600",
        ]
        command = ["-m", "pipelines", *arguments]
        ranks = [
            start(
                ["ip", "netns", "exec", name, *TORCHRUN, *together, "--node-rank", str(number), *command],
                GLOO_SOCKET_IFNAME=device,
            )
            for number, (name, device, _) in enumerate(hosts)
        ]
        end(*ranks)
    assert_same_run(tmp_path / "run", whole)
