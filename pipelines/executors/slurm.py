"""Run cells on a cluster as arrays of Slurm jobs (through submitit), watched by `attnlab ablate`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import submitit

from pipelines.ablation.cell import Cell, OnOutcome, Outcome, costs_nothing, outcome_of, run_cell_commands
from pipelines.config.ablation import SlurmConfig
from pipelines.distributed.launch import adopt_slurm_rank, is_first_rank
from pipelines.distributed.stop import EXIT_INTERRUPTED, StopRequest
from pipelines.errors import UserError
from pipelines.executors import cancellation, retries, slurm_queue
from pipelines.executors.others import OtherCommands
from pipelines.executors.worker import limit_threads, run_cell
from pipelines.storage.lock import is_held, lock
from pipelines.storage.names import FAILURE, LOCK

FOLDER = "queue"  # in the ablation's folder: submitit's files
SECONDS_BETWEEN_LOOKS = 3.0
NO_END = 10**6  # submitit counts preemptions as time-outs; `retries` decides when a run is given up


class RunCell(submitit.helpers.Checkpointable):
    """The work of a Slurm job: run one cell, and queue again if it has to stop before its end.

    The run itself reacts to Slurm's signals by saving a checkpoint. Then it raises the signal for submitit,
    which puts the job back into the queue.
    """

    def __call__(self, cell: Cell) -> int:
        limit_threads(cell.config["threads"])
        adopt_slurm_rank()
        if is_first_rank() and retries.is_given_up(cell.folder):
            return 1
        code = run_cell(cell)
        if code == EXIT_INTERRUPTED and is_first_rank() and _continues(cell):
            signal.raise_signal(signal.SIGUSR2)
        return code


def _continues(cell: Cell) -> bool:
    """Whether a run that was asked to stop queues again: not if the ablation or its job was cancelled."""
    return not cancellation.is_cancelled(cell.ablation) and slurm_queue.is_running(os.environ["SLURM_JOB_ID"])


class SlurmExecutor:
    """Submits cells as job arrays and watches the queue and the run folders until all cells have ended.

    The jobs do not need the watcher: one that is preempted or reaches its time limit saves a checkpoint and
    queues again by itself, and Slurm restarts the jobs of a lost node. The watcher submits again the jobs
    that the queue has lost, and reports. It can be stopped and started, and several can run at once; each
    cell still runs once.

    Args:
        ablation: the ablation's folder, on a file system that all nodes see.
        say: called with sentences for the user.

    Raises:
        UserError: this machine cannot submit jobs.
    """

    when_stopped = (
        "its jobs stay in the queue: start the same command again to continue watching, or cancel them with "
        "attnlab status DIR --cancel"
    )

    prepare = staticmethod(run_cell_commands)
    price = staticmethod(costs_nothing)

    def __init__(self, settings: SlurmConfig, ablation: Path, say: Callable[[str], None]) -> None:
        for program in ("sbatch", "squeue"):
            if shutil.which(program) is None:
                raise UserError(
                    "--executor slurm", f"there is no {program} here", accepted="use a login node"
                )
        self.settings, self.ablation, self.say = settings, ablation.absolute(), say
        self.at_a_time = settings.at_once
        self.jobs: dict[Cell, list[str]] = {}  # all jobs of a cell, submitted or found; the last one counts
        self.queue_answers = True
        self.submissions, self.others = retries.Submissions(), OtherCommands(say)

    def run(self, cells: Sequence[Cell], *, stop: StopRequest, on_outcome: OnOutcome) -> None:
        """Submit every cell that has no job, and report each as it ends.

        Raises:
            UserError: Slurm does not answer, or refuses the jobs.
        """
        if slurm_queue.states() is None:
            accepted = "nothing was submitted; the same command goes on when squeue works here"
            raise UserError("--executor slurm", "squeue does not answer", accepted=accepted)
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
                lost: list[Cell] = []
                stored = slurm_queue.jobs_of(self.ablation)
                for name, cell in list(waiting.items()):
                    job = self.jobs[cell][-1] if cell in self.jobs else stored.get(name)
                    outcome = self._look(cell, job, states.get(job) if job else None, lost)
                    if outcome is not None:
                        del waiting[name]
                        self._tidy(cell, outcome)
                        on_outcome(cell, outcome)
                self._submit(lost)
            for _ in range(10 if waiting else 0):  # react to a stop at once
                time.sleep(SECONDS_BETWEEN_LOOKS / 10)
                if stop.requested:
                    break

    def _states(self) -> dict[str, str] | None:
        """Return the states of the queue; report once when it stops answering."""
        states = slurm_queue.states()
        if states is None and self.queue_answers:
            self.say("squeue does not answer; no run is lost, and it is asked again every few seconds")
        self.queue_answers = states is not None
        return states

    def _look(self, cell: Cell, job: str | None, state: str | None, lost: list[Cell]) -> Outcome | None:
        """Return the outcome of a cell, None while it has none; add it to `lost` if it has no live job."""
        if job is not None and slurm_queue.is_alive(state):
            self._add_job(cell, job)
            return None
        outcome = outcome_of(cell)
        if outcome.status in ("finished", "diverged"):
            return outcome
        if is_held(cell.folder / LOCK):  # by another command, or by a process that outlived its job
            if cell not in self.jobs:
                self.others.tell(cell)
            return None
        if cell in self.jobs:  # submitted by this watcher, so its failure is not an old one
            if outcome.status == "failed":
                return outcome
            if state == "CANCELLED":
                return Outcome("interrupted", f"its job {job} was cancelled")
        if (number := self.submissions.fruitless(cell.folder)) >= retries.MOST_FRUITLESS:
            last = f"Slurm says {state} of job {job}, see {self._log(job)}"
            return Outcome("failed", retries.sentence(number, last))
        lost.append(cell)
        return None

    def _submit(self, cells: Sequence[Cell]) -> None:
        """Submit cells, as one array for each number of processes and threads."""
        kinds: defaultdict[tuple[int, int], list[Cell]] = defaultdict(list)
        for cell in cells:
            kinds[cell.config["processes"], cell.config["threads"]].append(cell)
        with lock(self.ablation / "queue.lock", wait=True):  # another watcher may have been faster
            states, stored = slurm_queue.states(), slurm_queue.jobs_of(self.ablation)
            if states is None:  # no answer: try at the next look, rather than submit twice
                return
            for (processes, threads), alike in kinds.items():
                free = [one for one in alike if not _is_alive(stored.get(one.folder.name), states)]
                if free:
                    self._submit_array(free, processes, threads)

    def _submit_array(self, cells: Sequence[Cell], processes: int, threads: int) -> None:
        executor = submitit.SlurmExecutor(self.ablation / FOLDER, max_num_timeout=NO_END)
        executor.update_parameters(**parameters(self.settings, processes, threads, self.ablation.name))
        for cell in cells:
            (cell.folder / FAILURE).unlink(missing_ok=True)
            self.submissions.add(cell.folder)
        try:
            jobs = executor.map_array(RunCell(), [_absolute(cell) for cell in cells])
        except submitit.core.utils.FailedJobError as error:
            answer = " ".join(str(error).split())
            raise UserError("slurm", "the jobs were not accepted", answer, "see sbatch's manual") from error
        ids = {cell: job.job_id for cell, job in zip(cells, jobs)}
        for cell, job in ids.items():
            self._add_job(cell, job)
        slurm_queue.remember_jobs(self.ablation, {cell.folder.name: job for cell, job in ids.items()})
        self.say(f"{len(cells)} runs submitted to Slurm as job {jobs[0].job_id.partition('_')[0]}")

    def _add_job(self, cell: Cell, job: str) -> None:
        jobs = self.jobs.setdefault(cell, [])
        if jobs[-1:] != [job]:
            jobs.append(job)

    def _log(self, job: str | None) -> Path:
        return self.ablation / FOLDER / f"{job}_0_log.out"

    def _tidy(self, cell: Cell, outcome: Outcome) -> None:
        """Delete submitit's files of a run that has ended: three for each job, which hold nothing new."""
        retries.forget(cell.folder)
        if outcome.status in ("finished", "diverged"):
            for job in self.jobs.get(cell, ()):
                for path in (self.ablation / FOLDER).glob(f"{job}_*"):
                    path.unlink(missing_ok=True)


def parameters(settings: SlurmConfig, processes: int, threads: int, name: str) -> dict[str, Any]:
    """Return the parameters of jobs of so many processes, under submitit's names.

    Raises:
        UserError: the processes cannot be divided evenly among the nodes.
    """
    per_node, rest = divmod(processes, settings.nodes)
    if rest:
        what = f"{processes} processes cannot be divided among {settings.nodes} nodes"
        raise UserError("slurm.nodes", what)
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
    """Return the largest number of jobs that Slurm accepts in one array."""
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


def _is_alive(job: str | None, states: Mapping[str, str]) -> bool:
    return job is not None and slurm_queue.is_alive(states.get(job))
