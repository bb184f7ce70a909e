"""Run cells on a Ray cluster, one task per run; Ray starts again what a lost worker or node has lost."""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pipelines.ablation.at_url import at_url, is_at_work
from pipelines.ablation.cell import (
    Cell,
    OnOutcome,
    Outcome,
    costs_nothing,
    outcome_of,
    run_cell_commands,
    to_plain,
)
from pipelines.config.ablation import RayConfig
from pipelines.distributed.stop import StopRequest
from pipelines.errors import RunFailed, UserError
from pipelines.executors import cancellation, retries
from pipelines.executors.others import OtherCommands
from pipelines.registry.child import python_module
from pipelines.storage.names import FAILURE

SECONDS_TO_ANSWER = 40.0
SECONDS_BETWEEN_LOOKS = 1.0
FORWARDED = ("ATTNLAB_", "HF_")  # variables of this shell that the runs get too, on any node


class RayExecutor:
    """Submits a task for each cell and watches them until all cells have ended.

    The tasks end with this process: when it is asked to stop, or killed, the runs save a checkpoint and
    leave. A task that ended without a result (its run was preempted, or killed) is submitted again.

    Args:
        ablation: the ablation's folder, on a file system that all nodes see, unless there is a store.
        say: called with sentences for the user.
        store: storage URL of the run folders.

    Raises:
        UserError: Ray is not installed.
    """

    at_a_time = None
    when_stopped = "its runs have saved a checkpoint: start the same command again to resume"

    prepare = staticmethod(run_cell_commands)
    price = staticmethod(costs_nothing)

    def __init__(
        self, settings: RayConfig, ablation: Path, say: Callable[[str], None], store: str | None = None
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            what = "the runs are made by Ray, which is not installed"
            raise UserError("--executor ray", what, accepted="pip install 'attnlab[ray]'")
        self.settings, self.ablation, self.say = settings, ablation.absolute(), say
        self.remote = at_url(store, self.ablation)

    def run(self, cells: Sequence[Cell], *, stop: StopRequest, on_outcome: OnOutcome) -> None:
        """Submit every cell that no other process works on, and report each as it ends."""
        unfinished = {cell.folder.name: cell for cell in cells}
        to_submit = list(cells)
        for cell in cells:
            retries.forget(cell.folder)
        if self.remote is not None:
            self.remote.forget_starts(cells)
        submitted, others = set[Cell](), OtherCommands(self.say)
        with self._driver() as driver:
            self._tell_what_no_node_has(cells, driver.nodes)
            while unfinished and not stop.requested and not cancellation.is_cancelled(self.ablation):
                held = []
                for cell in to_submit:
                    if is_at_work(cell):
                        held.append(cell)
                        if cell not in submitted:
                            others.tell(cell)
                        continue
                    submitted.add(cell)
                    (cell.folder / FAILURE).unlink(missing_ok=True)
                    driver.submit(cell, needs(self.settings, cell.config))
                to_submit = held
                for ended in driver.ended():
                    cell = unfinished[ended["ended"]]
                    if self.remote is not None:
                        self.remote.fetch_results([cell])
                    outcome = outcome_of(cell)
                    if ended["reason"] and outcome.status == "interrupted":
                        outcome = Outcome("failed", f"Ray could not run it: {ended['reason']}")
                    if outcome.status == "interrupted":
                        to_submit.append(cell)
                    else:
                        del unfinished[cell.folder.name]
                        retries.forget(cell.folder)
                        on_outcome(cell, outcome)

    @contextmanager
    def _driver(self) -> Iterator[Driver]:
        """Yield a connected driver; in the end its tasks are cancelled, and it is waited for."""
        cluster = {
            "address": self.settings.address,
            "runtime_env": self.settings.runtime_env,
            "task": {
                "here": os.getcwd(),
                "environment": {
                    name: value for name, value in os.environ.items() if name.startswith(FORWARDED)
                },
            },
        }
        with tempfile.TemporaryFile() as errors:
            driver = Driver(cluster, errors)
            try:
                yield driver
            finally:
                driver.leave()

    def _tell_what_no_node_has(self, cells: Sequence[Cell], nodes: Sequence[Mapping[str, float]]) -> None:
        """Say which resources no node of the cluster has: Ray waits for such a node without a word."""
        asked = {tuple(sorted(resources(self.settings, cell.config).items())) for cell in cells}
        for kind in sorted(asked):
            if not any(all(node.get(name, 0) >= amount for name, amount in kind) for node in nodes):
                told = {name: amount / 1e9 if name == "memory" else amount for name, amount in kind}  # in GB
                wanted = ", ".join(f"{name} {amount:g}" for name, amount in told.items())
                self.say(f"no node of the Ray cluster has {wanted}; these runs wait until one joins")


class Driver:
    """The child process that talks to Ray (`ray_driver.py`).

    Raises:
        UserError: the cluster does not answer, or the runtime environment is none of Ray's.
    """

    def __init__(self, cluster: Mapping[str, Any], errors: IO[bytes]) -> None:
        self.place, self.errors = cluster["address"] or "RAY_ADDRESS or this machine", errors
        self.process = subprocess.Popen(
            python_module("pipelines.executors.ray_driver"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent, which ends the input
        )
        self.lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self._write(cluster)
        try:
            answer = self.lines.get(timeout=SECONDS_TO_ANSWER) or {}
        except queue.Empty:
            answer = {}
        if "nodes" not in answer:
            self.process.kill()
            self.process.wait()
            reason = answer.get("refused") or self._last_words()
            if answer.get("where") == "ray.runtime_env":
                raise UserError("ray.runtime_env", f"Ray does not take it: {reason}")
            raise UserError(
                "ray.address",
                "no Ray cluster answers" + (f": {reason}" if reason else ""),
                self.place,
                "start one (ray start --head), or name its HOST:PORT",
            )
        self.nodes: Sequence[Mapping[str, float]] = answer["nodes"]

    def submit(self, cell: Cell, needs: Mapping[str, Any]) -> None:
        """Submit a run."""
        self._write({"name": cell.folder.name, "needs": needs, "cell": to_plain(cell)})

    def ended(self) -> Iterator[dict[str, Any]]:
        """Yield the runs whose tasks have ended; wait a moment for the first.

        Raises:
            RunFailed: the cluster is lost.
        """
        with suppress(queue.Empty):
            line = self.lines.get(timeout=SECONDS_BETWEEN_LOOKS)
            while True:
                if line is None:
                    raise RunFailed(
                        f"ray: the cluster at {self.place} is lost; when it answers again, the same command "
                        "goes on from the checkpoints of the runs"
                    )
                yield line
                line = self.lines.get_nowait()

    def leave(self) -> None:
        """Cancel what is not finished, and wait until its runs have left."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        self.process.wait()

    def _last_words(self) -> str:
        """Return the last line of an exception; what Ray logs itself is long, and begins with a bracket."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").splitlines() or [""]
        return "" if lines[-1].startswith("[") else lines[-1].strip()

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # it has ended: `ended` says so
            self.process.stdin.write(f"{json.dumps(line)}\n")
            self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)


def resources(settings: RayConfig, config: Mapping[str, Any]) -> dict[str, float]:
    """Return what a run asks of its node, under Ray's names; its processes share one node."""
    processes = config["processes"]
    asked = {"CPU": (settings.cpus or config["threads"]) * processes, "GPU": settings.gpus * processes}
    memory = (settings.memory_gb or 0) * 1e9
    return {name: amount for name, amount in (asked | {"memory": memory}).items() if amount} | dict(
        settings.resources
    )


def needs(settings: RayConfig, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a task for `resources`."""
    asked = resources(settings, config)
    known = {"num_cpus": asked.pop("CPU", 0), "num_gpus": asked.pop("GPU", 0)}
    memory = asked.pop("memory", None)
    return known | ({"memory": memory} if memory else {}) | ({"resources": asked} if asked else {})
