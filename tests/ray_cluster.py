"""A real Ray cluster of two nodes on this machine, in processes of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from pipelines.distributed.launch import free_port

SECONDS_TO_START = 120
SMALL = ("--num-cpus=1", "--object-store-memory=80000000", "--block")


class Node:
    """One node: `ray start --block`, and all that it starts; `scratch` is its TMPDIR."""

    def __init__(self, log: Path, *arguments: str) -> None:
        code = "from ray.scripts.scripts import main; main()"
        address = "--node-ip-address=127.0.0.1"
        command = [sys.executable, "-c", code, "start", address, *SMALL, *arguments]
        self.scratch = log.with_suffix("")
        self.scratch.mkdir()
        own = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "TMPDIR": str(self.scratch)}
        environment = os.environ | own
        with open(log, "wb") as file:
            self.process = psutil.Popen(
                command, env=environment, stdout=file, stderr=file, start_new_session=True
            )
        self.log = log

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Return the processes of this node whose command line holds `name`."""
        found = []
        for process in [self.process, *self.process.children(recursive=True)]:
            try:
                if name in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill(self) -> None:
        """Kill every process of this node at once."""
        try:
            processes = self.processes()
        except psutil.NoSuchProcess:
            return
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()


class RayCluster:
    """A head and a second node, of one CPU each."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: sockets lie in it
        self.address = f"127.0.0.1:{free_port()}"
        self.nodes: list[Node] = []
        self.started = itertools.count()
        self.start_head()

    def start_head(self) -> Node:
        """Start the head, at the same address each time, and return it; end what is left of a lost one."""
        for node in self.nodes:
            node.kill()
        port = self.address.partition(":")[2]
        head = Node(
            self.folder / f"head-{next(self.started)}.txt",
            *("--head", f"--port={port}", f"--temp-dir={self.folder}/ray", "--include-dashboard=false"),
        )
        self.nodes = [head]
        return head

    def add_node(self) -> Node:
        """Start another node and return it."""
        node = Node(self.folder / f"node-{next(self.started)}.txt", f"--address={self.address}")
        self.nodes.append(node)
        return node

    def wait(self) -> None:
        """Wait until every node has joined."""
        deadline = time.monotonic() + SECONDS_TO_START
        while not all("Ray runtime started" in node.log.read_text() for node in self.nodes):
            for node in self.nodes:
                assert node.process.poll() is None, node.log.read_text()
            assert time.monotonic() < deadline, [node.log.read_text() for node in self.nodes]
            time.sleep(0.1)

    def stop(self) -> None:
        for node in reversed(self.nodes):
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Yield a cluster of two nodes, and stop it in the end."""
    cluster = RayCluster()
    try:
        cluster.wait()
        cluster.add_node()
        cluster.wait()
        yield cluster
    finally:
        cluster.stop()
