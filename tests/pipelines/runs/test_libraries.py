"""Libraries are set up so that a forked run leaves nothing behind in the system."""

from __future__ import annotations

import subprocess
import sys

CHILD = """
from multiprocessing import resource_tracker, set_start_method
from pipelines.config.load import run_from_dict
from pipelines.runs.prepare import set_up_libraries
set_start_method("forkserver", force=True)  # as in the runs of an ablation: its semaphores have names
named = []
resource_tracker.register = lambda name, kind: named.append(kind)
if {ours}:
    set_up_libraries(run_from_dict({config!r}))
from datasets.utils import tqdm
list(tqdm(range(3), disable=False, file=open("/dev/null", "w")))
print("semaphore" in named)
"""
CONFIG = {
    "task": "ner",
    "data": {"generated": {"name": "ner", "train": 4, "validation": 2}},
    "model": {"architecture": "bert", "family": "encoder", "vocab_size": 300},
}


def test_the_progress_bars_of_a_run_register_no_semaphore_that_a_fork_would_leave():
    def registers(ours: bool) -> str:
        script = CHILD.format(ours=ours, config=CONFIG)
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        return done.stdout.splitlines()[-1]

    assert registers(ours=False) == "True"  # else this test sees nothing
    assert registers(ours=True) == "False"
