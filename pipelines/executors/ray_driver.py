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
import threading
import time
from typing import Any, TextIO

import ray
from ray.exceptions import RayError

from pipelines.shown import printable

SECONDS_BETWEEN_LOOKS = 0.5


def main() -> None:
    """Submit runs as they come and report the ended ones; when the input ends, cancel the others and wait."""
    cluster = json.loads(sys.stdin.readline())
    answers = _own_output()
    try:
        ray.init(
            address=cluster["address"] or "auto",
            runtime_env=cluster["runtime_env"] or None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, TypeError, ValueError) as error:
        _tell(answers, {"refused": _first_sentence(error)})
        return
    _tell(answers, {"nodes": [node["Resources"] for node in ray.nodes() if node["Alive"]]})
    tasks: dict[Any, str] = {}  # name of the run, by the reference to its task
    threading.Thread(target=_watch, args=(tasks, answers), daemon=True).start()
    make_run = _task()
    for line in sys.stdin:
        run = json.loads(line)
        tasks[make_run.options(**run["needs"]).remote(name=run["name"], **cluster["task"])] = run["name"]
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
    def make_run(name: str, ablation: str, here: str, environment: dict[str, str]) -> None:
        import os
        import sys

        sys.path[:] = [entry for entry in sys.path if entry != here] + [here]
        os.environ.update(environment)  # before the imports, which read it
        from pipelines.executors.ray_task import make_run_on_node

        make_run_on_node(ablation, name)

    return make_run


def _watch(tasks: dict[Any, str], answers: TextIO) -> None:
    """Report each run whose task has ended."""
    while True:
        if not tasks:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            continue
        ended, _ = ray.wait(list(tasks), timeout=SECONDS_BETWEEN_LOOKS)
        for task in ended:
            reason = None
            try:
                ray.get(task)
            except RayError as error:
                reason = _first_sentence(getattr(error, "cause", None) or error)
            _tell(answers, {"ended": tasks[task], "reason": reason})
            del tasks[task]  # last: `main` leaves when none is left


def _own_output() -> TextIO:
    """Return standard output for our lines alone; what Ray prints there of a lost node joins the errors."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _tell(answers: TextIO, line: dict[str, Any]) -> None:
    print(printable(json.dumps(line)), file=answers, flush=True)


def _first_sentence(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [""])[0].partition(". ")[0].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    main()
