"""A Slurm cluster of two nodes on this machine, in one folder, without systemd and accounting."""

from __future__ import annotations

import math
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
DAEMONS = ("slurmctld", "slurmd", "munged")
NODES = ("n1", "n2")
SECONDS_TO_INSTALL, SECONDS_TO_START = 120, 30
SECONDS_UNTIL_LOST = 10  # without an answer of its daemon, a node is down
SECONDS_OF_GRACE = (
    300  # most that a preempted job has to save; one that leaves earlier frees its node at once
)
CONFIGURATION = """
ClusterName=attnlab
SlurmctldHost={host}
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
KillWait=5
SlurmdTimeout={lost}
ReturnToService=2
{nodes}
PartitionName=low Nodes=n[1-2] Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace} State=UP
PartitionName=high Nodes=n[1-2] PriorityTier=10 PreemptMode=OFF State=UP
"""


class CannotRun(Exception):
    """Slurm cannot run on this machine; the message says why."""


def install() -> None:
    """Install Debian's packages of Slurm unless they are installed.

    Raises:
        CannotRun: this needs root, apt or a network, and it is missing.
    """
    if os.geteuid() != 0:
        raise CannotRun("Slurm's daemons run as root here, and this is another user")
    os.environ["PATH"] += f"{os.pathsep}/usr/sbin"  # where Debian puts daemons; not in every user's PATH
    if _is_installed():
        return
    if shutil.which("apt-get") is None:
        raise CannotRun("Slurm is not installed, and there is no apt-get")
    quick = ["-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10", "-qq"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        try:
            done = subprocess.run(
                ["apt-get", *quick, *command],
                env=environment,
                capture_output=True,
                text=True,
                timeout=SECONDS_TO_INSTALL,
            )
        except subprocess.TimeoutExpired as error:
            raise CannotRun("Slurm is not installed, and apt-get does not answer") from error
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise CannotRun(f"Slurm is not installed, and apt-get cannot install it: {reason}")
    if not _is_installed():
        raise CannotRun(
            f"{' and '.join(PACKAGES)} are installed, but not all of {', '.join(DAEMONS)} are here"
        )


def _is_installed() -> bool:
    return all(map(shutil.which, DAEMONS))


class Cluster:
    """A controller and two nodes: a context manager that stops its daemons and jobs at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.others: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        for name in ("state", *(f"spool.{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        host, (port, *node_ports) = socket.gethostname(), _free_ports(1 + len(NODES))
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4000"
            for name, port in zip(NODES, node_ports, strict=True)
        )
        text = CONFIGURATION.format(
            folder=self.folder,
            host=host,
            port=port,
            lost=SECONDS_UNTIL_LOST,
            grace=SECONDS_OF_GRACE,
            nodes=nodes,
        )
        (self.folder / "slurm.conf").write_text(text)
        try:
            self._start_munge()
            self.others.append(self._daemon("slurmctld", "-c"))
            for node in NODES:
                self.start_node(node)
            self._wait_until_idle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, subprocess.SubprocessError):
            self.run("scancel", "--user=root", "--state=PENDING", check=False)
            self.run("scancel", "--user=root", "--signal=KILL", "--full", check=False)
        self._kill_jobs()
        for daemon in (*self.nodes.values(), *reversed(self.others)):
            daemon.terminate()
        for daemon in (*self.nodes.values(), *self.others):
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._kill_jobs()

    # ---- for the scenarios
    def run(self, *command: str, check: bool = True) -> str:
        """Run a command of Slurm and return its output."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def jobs(self) -> dict[str, tuple[str, str, str]]:
        """Return state, node and reason of every job that waits or runs, by its id."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i|%T|%N|%r").splitlines()
        rows = (line.split("|") for line in lines)
        return {job: (state, node, reason) for job, state, node, reason in rows}

    def state(self, job: str) -> str:
        """Return the state of one job; GONE when it has ended."""
        return self.jobs().get(job, ("GONE", "", ""))[0]

    def limit_minutes(self, job: str, *, ahead_seconds: int) -> int:
        """Return the shortest time limit of a running job, in whole minutes, that lies so far ahead."""
        begun = self.run("squeue", "--noheader", f"--jobs={job}", "--format=%S")
        worked = (datetime.now() - datetime.fromisoformat(begun)).total_seconds()
        return math.ceil((worked + ahead_seconds) / 60)

    def hurry(self) -> None:
        """Start requeued jobs now; otherwise Slurm holds them back for two minutes."""
        for job, (state, _, reason) in self.jobs().items():
            if state == "PENDING" and reason == "BeginTime":
                self.run("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)

    def start_node(self, node: str) -> None:
        self.nodes[node] = self._daemon("slurmd", "-N", node)

    def lose_node(self, node: str) -> None:
        """Kill every process of a node at once: its daemon, Slurm's job keepers (slurmstepd) and the jobs."""
        raw = self.run(
            "squeue", "--noheader", f"--nodelist={node}", "--states=RUNNING", "--format=%A"
        ).split()
        self.nodes.pop(node).kill()
        for process in _processes():
            keeper = any(process.command.startswith(f"slurmstepd: [{job}.") for job in raw)
            if keeper or process.environment.get("SLURM_JOB_ID") in raw:
                process.kill()

    # ---- daemons
    def _start_munge(self) -> None:
        """Start a munged beside the system's, with its key, socket and files in this folder."""
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        self.folder.chmod(0o755)
        files = {name: f"{self.folder}/munge.{name}" for name in ("socket", "pid", "log", "seed")}
        command = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={files['socket']}"]
        command += [
            f"--pid-file={files['pid']}",
            f"--log-file={files['log']}",
            f"--seed-file={files['seed']}",
        ]
        self.others.append(self._spawn(command))
        _wait_for(Path(files["socket"]).exists, "munged")

    def _daemon(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        return self._spawn([name, "-D", "-f", str(self.folder / "slurm.conf"), *arguments])

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        log = open(self.folder / "daemons.log", "ab")  # noqa: SIM115 - the daemon keeps it open
        return subprocess.Popen(
            command, env=self.environment, stdout=log, stderr=log, start_new_session=True, cwd=self.folder
        )

    def _wait_until_idle(self) -> None:
        def idle() -> bool:
            return self.run("sinfo", "-h", "-t", "idle", "-p", "low", "-o", "%D", check=False) == str(
                len(NODES)
            )

        _wait_for(idle, f"Slurm (its logs are in {self.folder})")

    def _kill_jobs(self) -> None:
        """Kill jobs and their keepers, which are not children of this process, by their SLURM_CONF."""
        ours = self.environment["SLURM_CONF"]
        for process in _processes():
            if process.environment.get("SLURM_CONF") == ours and (
                process.command.startswith("slurmstepd:") or "SLURM_JOB_ID" in process.environment
            ):
                process.kill()


class _Process:
    def __init__(self, number: int) -> None:
        self.number = number
        raw = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
        pairs = (item.decode(errors="replace").partition("=") for item in raw if b"=" in item)
        self.environment = {name: value for name, _, value in pairs}
        self.command = Path(f"/proc/{number}/cmdline").read_text(errors="replace").replace("\0", " ")

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.number, signal.SIGKILL)


def _processes() -> list[_Process]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                found.append(_Process(int(entry.name)))
    return found


def _free_ports(count: int) -> list[int]:
    """Return free ports, so that two clusters can run on one machine."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not condition():
        if time.monotonic() > deadline:
            raise CannotRun(f"{what} did not start within {SECONDS_TO_START} s")
        time.sleep(0.2)
