"""Cells on a cluster: arrays of Slurm jobs through submitit, watched by `attnlab ablate`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import submitit

from pipelines.ablation.cell import Cell, OnOutcome, Outcome, outcome_of
from pipelines.config.ablation import SlurmConfig
from pipelines.distributed.launch import adopt_slurm_rank, is_first_rank
from pipelines.distributed.stop import EXIT_INTERRUPTED, StopRequest
from pipelines.errors import UserError
from pipelines.executors import cancellation, retries, slurm_queue
from pipelines.executors.worker import run_cell
from pipelines.storage.lock import is_held, lock
from pipelines.storage.names import FAILURE, LOCK
from pipelines.storage.run_folder import RunFolder

FOLDER = "queue"  # in the ablation's folder: submitit's files
SECONDS_BETWEEN_LOOKS = 3.0
NO_END = 10**6  # submitit counts preemptions as time-outs; `starts` decides when a run is given up


class RunCell(submitit.helpers.Checkpointable):
    """What a Slurm job does: run one cell, and give it back to the queue where it has to stop before its end.

    The run itself answers Slurm's signals with a sealed checkpoint. Then the signal is handed on to submitit,
    which puts the job back into the queue.
    """

    def __call__(self, cell: Cell) -> int:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read once, when torch is imported
            os.environ[name] = str(cell.config["threads"])
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        adopt_slurm_rank()
        if is_first_rank() and RunFolder(cell.folder).manifest() is None and not is_held(cell.folder / LOCK):
            fruitless = retries.count(cell.folder)
            if fruitless >= retries.MOST_FRUITLESS:
                why = retries.sentence(fruitless, "see log.txt beside this")
                (cell.folder / FAILURE).write_text(f"{why}\n", encoding="utf-8")
                return 1
        code = run_cell(cell)
        if code == EXIT_INTERRUPTED and is_first_rank() and _is_to_go_on(cell):
            signal.raise_signal(signal.SIGUSR2)
        return code


def _is_to_go_on(cell: Cell) -> bool:
    """Whether a run that was asked to stop queues again: not where somebody cancelled it or its job."""
    return not cancellation.is_cancelled(cell.ablation) and slurm_queue.still_ours(os.environ["SLURM_JOB_ID"])


class SlurmExecutor:
    """Submits cells as job arrays and watches the queue and the run folders until all are over.

    The jobs need no watcher: one that is preempted or reaches its time limit saves a checkpoint and queues
    again by itself, and Slurm starts again what a lost node worked on. The watcher submits again what the
    queue has lost, and reports. Watchers can come, go and be several; a cell runs once in any case.

    Args:
        ablation: the ablation's folder, on a file system that all nodes see.
        say: called with sentences for the user.

    Raises:
        UserError: this machine cannot submit jobs.
    """

    when_stopped = (
        "its jobs stay in the queue: start the same command again to go on watching, or cancel them with "
        "attnlab status DIR --cancel"
    )

    def __init__(self, settings: SlurmConfig, ablation: Path, say: Callable[[str], None]) -> None:
        for program in ("sbatch", "squeue"):
            if shutil.which(program) is None:
                raise UserError(
                    "--executor slurm", f"there is no {program} here", accepted="use a login node"
                )
        self.settings, self.ablation, self.say = settings, ablation.absolute(), say
        self.at_a_time = settings.at_once
        self.jobs: dict[Cell, list[str]] = {}  # each that a cell had, submitted or found; the last is its own
        self.queue_answers = True
        self.tries: dict[Cell, tuple[int, int]] = {}  # newest step, submissions since it was new

    def run(self, cells: Sequence[Cell], *, stop: StopRequest, on_outcome: OnOutcome) -> None:
        """Submit every cell that no job waits for, and report each as it ends."""
        for cell in cells:
            retries.forget(cell.folder)
        most = largest_array()
        for first in range(0, len(cells), most):
            self._watch(cells[first : first + most], stop, on_outcome)

    def _watch(self, cells: Sequence[Cell], stop: StopRequest, on_outcome: OnOutcome) -> None:
        waiting = {cell.folder.name: cell for cell in cells}
        while waiting and not stop.requested and not cancellation.is_cancelled(self.ablation):
            states = self._states()
            if states is not None:
                lost, taken = [], slurm_queue.jobs_of(self.ablation)
                for name, cell in list(waiting.items()):
                    job = self.jobs[cell][-1] if cell in self.jobs else taken.get(name)
                    outcome = self._look(cell, job, states.get(job), lost)
                    if outcome is not None:
                        del waiting[name]
                        self._tidy(cell, outcome)
                        on_outcome(cell, outcome)
                self._submit(lost)
            for _ in range(10 if waiting else 0):  # a stop is answered at once
                time.sleep(SECONDS_BETWEEN_LOOKS / 10)
                if stop.requested:
                    break

    def _states(self) -> dict[str, str] | None:
        """What the queue says; a silence is told once."""
        states = slurm_queue.states()
        if states is None and self.queue_answers:
            self.say("squeue does not answer; no run is lost by that, and it is asked again and again")
        self.queue_answers = states is not None
        return states

    def _look(self, cell: Cell, job: str | None, state: str | None, lost: list[Cell]) -> Outcome | None:
        """How a cell ended; None while it has not. One that nobody works on any more is added to `lost`."""
        if slurm_queue.is_alive(state):
            self._give(cell, job)
            return None
        outcome = outcome_of(cell)
        if outcome.status in ("finished", "diverged"):
            return outcome
        if is_held(cell.folder / LOCK):  # by another ablation, or by a process that outlived its job
            return None
        if cell in self.jobs:  # it was given to the queue, so what it left behind is of now
            if outcome.status == "failed":
                return outcome
            if state == "CANCELLED":
                return Outcome("interrupted", f"its job {job} was cancelled")
        if (number := self._fruitless_tries(cell)) >= retries.MOST_FRUITLESS:
            last = f"Slurm says {state} of job {job}, see {self._log(job)}"
            return Outcome("failed", retries.sentence(number, last))
        lost.append(cell)
        return None

    def _fruitless_tries(self, cell: Cell) -> int:
        """Submissions of this watcher since the run's newest checkpoint."""
        step, number = self.tries.get(cell, (0, 0))
        return number if step == RunFolder(cell.folder).newest_step() else 0

    def _submit(self, cells: Sequence[Cell]) -> None:
        """Give cells to the queue, as one array for each kind of job."""
        kinds = defaultdict(list)
        for cell in cells:
            kinds[cell.config["processes"], cell.config["threads"]].append(cell)
        with lock(self.ablation / "queue.lock", wait=True):  # another watcher may have been faster
            states, taken = slurm_queue.states(), slurm_queue.jobs_of(self.ablation)
            if states is None:  # no answer: at the next look, rather than twice
                return
            for (processes, threads), alike in kinds.items():
                free = [
                    one for one in alike if not slurm_queue.is_alive(states.get(taken.get(one.folder.name)))
                ]
                if free:
                    self._submit_array(free, processes, threads)

    def _submit_array(self, cells: Sequence[Cell], processes: int, threads: int) -> None:
        executor = submitit.SlurmExecutor(self.ablation / FOLDER, max_num_timeout=NO_END)
        executor.update_parameters(**parameters(self.settings, processes, threads, self.ablation.name))
        for cell in cells:
            (cell.folder / FAILURE).unlink(missing_ok=True)
            self.tries[cell] = RunFolder(cell.folder).newest_step(), self._fruitless_tries(cell) + 1
        try:
            jobs = executor.map_array(RunCell(), [_absolute(cell) for cell in cells])
        except submitit.core.utils.FailedJobError as error:
            said = " ".join(str(error).split())
            raise UserError("slurm", "the jobs were not accepted", said, "see sbatch's manual") from error
        ids = {cell: job.job_id for cell, job in zip(cells, jobs)}
        for cell, job in ids.items():
            self._give(cell, job)
        slurm_queue.remember_jobs(self.ablation, {cell.folder.name: job for cell, job in ids.items()})
        self.say(f"{len(cells)} runs given to Slurm as job {jobs[0].job_id.partition('_')[0]}")

    def _give(self, cell: Cell, job: str) -> None:
        had = self.jobs.setdefault(cell, [])
        if had[-1:] != [job]:
            had.append(job)

    def _log(self, job: str | None) -> Path:
        return self.ablation / FOLDER / f"{job}_0_log.out"

    def _tidy(self, cell: Cell, outcome: Outcome) -> None:
        """Remove submitit's files of a run that is over: three for each job, and nothing new in them."""
        retries.forget(cell.folder)
        if outcome.status in ("finished", "diverged"):
            for job in self.jobs.get(cell, ()):
                for path in (self.ablation / FOLDER).glob(f"{job}_*"):
                    path.unlink(missing_ok=True)


def parameters(settings: SlurmConfig, processes: int, threads: int, name: str) -> dict[str, Any]:
    """What sbatch is told about jobs of so many processes (submitit's names).

    Raises:
        UserError: the processes cannot be dealt out evenly to the nodes.
    """
    per_node, rest = divmod(processes, settings.nodes)
    if rest:
        raise UserError("slurm.nodes", f"{processes} processes cannot be dealt out to {settings.nodes} nodes")
    cpus = settings.cpus or threads
    wanted = {
        "job_name": f"attnlab-{name}",
        "time": settings.minutes,
        "nodes": settings.nodes,
        "ntasks_per_node": per_node,
        "cpus_per_task": cpus,
        "gpus_per_node": settings.gpus * per_node or None,
        "mem": f"{settings.memory_gb:g}GB" if settings.memory_gb else None,
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "array_parallelism": settings.at_once or NO_END,
        "signal_delay_s": settings.signal_seconds,
        "setup": list(settings.setup) or None,
        "stderr_to_stdout": True,
        # A lost rank must not leave the others waiting; srun asks for CPUs itself since Slurm 22.05.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={cpus}"],
        "additional_parameters": {"requeue": True, **settings.options},
    }
    return {key: value for key, value in wanted.items() if value is not None}


def largest_array() -> int:
    """Jobs that Slurm takes in one array."""
    answer = subprocess.run(
        ["scontrol", "show", "config"], capture_output=True, text=True, check=False
    ).stdout
    return max(_values(answer, "MaxArraySize"), default=1001)


def _values(answer: str, name: str) -> Iterator[int]:
    for line in answer.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == name and value.strip().isdigit():
            yield max(1, int(value))


def _absolute(cell: Cell) -> Cell:
    return replace(cell, folder=cell.folder.absolute(), ablation=cell.ablation.absolute())
