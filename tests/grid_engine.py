"""A real Grid Engine on this machine: a master, one host of two slots, all in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.distributed.launch import free_port

HOME = Path("/usr/lib/gridengine")  # of Debian's packages gridengine-master and gridengine-exec
SECONDS_TO_START = 60
# Settings of the cluster that Debian's defaults have otherwise: root may run jobs here.
GLOBAL = {"gid_range": "20000-20100", "min_uid": "0", "min_gid": "0"}
QUEUE = """
qname all.q
hostlist localhost
slots 2
rerun TRUE
qtype BATCH
shell /bin/sh
shell_start_mode unix_behavior
tmpdir /tmp
load_thresholds NONE
notify 00:00:60
seq_no 0
priority 0
nsuspend 0
processors UNDEFINED
initial_state default
"""
NONE = (
    *("suspend_thresholds", "ckpt_list", "pe_list", "prolog", "epilog", "starter_method", "suspend_method"),
    *("resume_method", "terminate_method", "owner_list", "user_lists", "xuser_lists", "subordinate_list"),
    *("complex_values", "projects", "xprojects", "calendar"),
)
LIMITS = ("rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem")


class GridEngine:
    """The daemons; `environment` is that of its commands and jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder, ports = folder, {"SGE_QMASTER_PORT": free_port(), "SGE_EXECD_PORT": free_port()}
        self.environment = os.environ | {"SGE_ROOT": str(folder), "SGE_CELL": "default"}
        self.environment |= {name: str(port) for name, port in ports.items()}
        self.daemons: list[subprocess.Popen] = []

    def start(self) -> None:
        common = self.folder / "default" / "common"
        for name in ("default/common", "spool", "qmaster", "execd"):
            (self.folder / name).mkdir(parents=True)
        for name in ("bin", "lib", "utilbin", "util"):
            (self.folder / name).symlink_to((Path("/var/lib/gridengine") / name).resolve())
        (common / "act_qmaster").write_text("localhost\n")
        (common / "host_aliases").write_text(f"localhost {socket.gethostname()}\n")
        (common / "bootstrap").write_text(
            "admin_user root\ndefault_domain none\nignore_fqdn true\nspooling_method berkeleydb\n"
            f"spooling_lib libspoolb\nspooling_params {self.folder}/spool\nbinary_path /usr/sbin\n"
            f"qmaster_spool_dir {self.folder}/qmaster\nsecurity_mode none\n"
            "listener_threads 2\nworker_threads 2\nscheduler_threads 1\n"
        )
        init = "/usr/share/gridengine/scripts/init_cluster"
        self.run(init, str(self.folder), "default", f"{self.folder}/spool", "root")
        self._daemon("sge_qmaster")
        self._wait(lambda: self._answers("qconf", "-sh"), "its master")
        self.run("qconf", "-as", socket.gethostname())
        text = self.run("qconf", "-sconf").replace("\\\n", " ")
        lines = (line.split(maxsplit=1) for line in text.splitlines()[1:] if line.strip())
        changes = GLOBAL | {"execd_spool_dir": f"{self.folder}/execd"}
        settings = {name: changes.get(name, value) for name, value in lines}
        (self.folder / "global").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        self.run("qconf", "-Mconf", str(self.folder / "global"))
        self._daemon("sge_execd")
        rows = [f"{name} NONE" for name in NONE]
        rows += [f"{kind}_{name} INFINITY" for name in LIMITS for kind in ("s", "h")]
        rows += ["suspend_interval 00:05:00", "min_cpu_interval 00:05:00"]
        (self.folder / "queue").write_text(QUEUE.lstrip() + "\n".join(rows) + "\n")
        self.run("qconf", "-Aq", str(self.folder / "queue"))
        self._wait(lambda: "lx-amd64" in self.run("qstat", "-f"), "its host")

    def stop(self) -> None:
        self._answers("qdel", "-u", "root")
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def run(self, *command: str, folder: Path | None = None, **environment: str) -> str:
        """Run a command of Grid Engine and return its output."""
        done = subprocess.run(
            command,
            cwd=folder or self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _answers(self, *command: str) -> bool:
        return not subprocess.run(command, env=self.environment, capture_output=True, timeout=60).returncode

    def _daemon(self, name: str) -> None:
        with open(self.folder / f"{name}.txt", "wb") as log:
            environment = self.environment | {"SGE_ND": "1"}  # stays a child
            self.daemons.append(
                subprocess.Popen(
                    [HOME / name], env=environment, stdout=log, stderr=log, start_new_session=True
                )
            )

    def _wait(self, condition, what: str) -> None:
        deadline = time.monotonic() + SECONDS_TO_START
        while not condition():
            if time.monotonic() > deadline:
                pytest.skip(f"Grid Engine does not start here: {what} does not answer")
            time.sleep(0.2)


@contextmanager
def grid_engine(folder: Path) -> Iterator[GridEngine]:
    """Yield a running Grid Engine, or skip the test with a reason."""
    if os.geteuid() != 0:
        pytest.skip("Grid Engine's daemons run as root here, and this is another user")
    if not all((HOME / name).exists() for name in ("sge_qmaster", "sge_execd")) or not shutil.which("qsub"):
        pytest.skip("gridengine-master, gridengine-exec and gridengine-client are not installed")
    cluster = GridEngine(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
