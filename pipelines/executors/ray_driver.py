"""Talk to a Ray cluster for `attnlab ablate`, as a child of it that `ray.py` beside this starts.

Ray ends the process of its driver when the head of the cluster is lost, and replaces its signal handlers; so
it gets a process of its own. Standard input has JSON, one object a line: first the cluster, then runs to
submit; its end asks to stop. Standard output gets a line when the cluster has answered, and one for each run
whose task has ended.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TextIO

import ray

from pipelines.shown import printable

SECONDS_BETWEEN_LOOKS = 0.5


def main() -> None:
    """Submit runs as they come and report the ended ones; when the input ends, cancel the others and wait."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what Ray prints is no answer
    tell = partial(_tell, answers)
    cluster = json.loads(sys.stdin.readline())
    where = "ray.runtime_env"
    try:
        if cluster["runtime_env"]:
            from ray.runtime_env import RuntimeEnv

            RuntimeEnv(**cluster["runtime_env"])
        where = "ray.address"
        ray.init(
            address=cluster["address"] or "auto",
            runtime_env=cluster["runtime_env"] or None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, TypeError, ValueError) as error:
        tell({"refused": _first_sentence(error), "where": where})
        return
    tell({"nodes": [node["Resources"] for node in ray.nodes() if node["Alive"]]})
    tasks: dict[Any, str] = {}  # name of the run, by the reference to its task
    make_run = _task()
    for line in sys.stdin:
        run = json.loads(line)
        task = make_run.options(**run["needs"]).remote(run=run["cell"], **cluster["task"])
        tasks[task] = run["name"]
        # To wait for all of them would look at each one whenever one ends.
        task.future().add_done_callback(partial(_report, task, tasks, tell))
    for task in list(tasks):
        ray.cancel(task)  # one that runs gets SIGINT: it saves a checkpoint
    while tasks:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    ray.shutdown()


def _task() -> Any:
    """Return the function that Ray calls on a node.

    It is defined in here, so that Ray sends its code: a node finds our packages only after the working
    folder, which Ray has put first on the search path, is moved behind them.
    """

    # A lost worker or node is no reason to give up: `retries` decides that.
    @ray.remote(max_retries=-1)
    def make_run(run: dict[str, Any], here: str, environment: dict[str, str]) -> None:
        import os
        import sys

        sys.path[:] = [entry for entry in sys.path if entry != here] + [here]
        os.environ.update(environment)  # before the imports, which read it
        from pipelines.executors.ray_task import make_run_on_node

        make_run_on_node(run)

    return make_run


def _report(
    task: Any, tasks: dict[Any, str], tell: Callable[[dict[str, Any]], None], ended: Future[None]
) -> None:
    """Report the run whose task has ended."""
    error = ended.exception()
    reason = None if error is None else _first_sentence(getattr(error, "cause", None) or error)
    tell({"ended": tasks[task], "reason": reason})
    del tasks[task]  # last: `main` leaves when none is left


def _tell(answers: TextIO, line: dict[str, Any]) -> None:
    print(printable(json.dumps(line)), file=answers, flush=True)


def _first_sentence(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [""])[0].partition(". ")[0].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    main()
