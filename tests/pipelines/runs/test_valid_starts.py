"""Any setting is refused in a sentence or starts a run; what `validate` refuses, `train` refuses alike."""

from __future__ import annotations

import json
import random

import pytest

from pipelines.cli.main import main
from tests.pipelines.mutated_runs import TASKS, VALUES, mutated, options, settings, why_refused

MUTATED = 4  # runs of each task: more of them with other seeds, by hand


def ended(capsys, *command: str) -> tuple[int, str]:
    """Return the status of a command and the last line that it said; a traceback is an error of the test."""
    status = main(command)
    said = capsys.readouterr().err
    assert "fault of attnlab" not in said
    return status, (said.splitlines() or [""])[-1]


@pytest.mark.parametrize("task", TASKS)
def test_a_tiny_run_of_every_task_takes_its_step(task, tmp_path, capsys):
    assert ended(capsys, "validate", *settings(task))[0] == 0
    status, said = ended(capsys, "train", *settings(task), "--out", str(tmp_path / "run"))
    assert (status, said) == (0, f"finished: {tmp_path / 'run'}")


@pytest.mark.parametrize("task", TASKS)
def test_a_changed_run_starts_or_is_refused_in_a_sentence(task, tmp_path, capsys):
    draw = random.Random(task)
    for number in range(MUTATED):
        changed = mutated(task, draw)
        valid, reason = ended(capsys, "validate", *changed)
        status, said = ended(capsys, "train", *changed, "--out", str(tmp_path / str(number)))
        assert (valid, status) in ((0, 0), (0, 2), (2, 2)), changed
        assert valid == 0 or said == reason
        if status == 2:
            assert valid == 2 or why_refused(said), (changed, said)
            assert not (tmp_path / str(number)).exists()


@pytest.mark.parametrize("task", TASKS)
def test_an_option_of_any_value_is_valid_or_refused_in_a_sentence(task, capsys):
    for key in options(task):
        for value in VALUES:
            change = f"{key}={json.dumps(value)}"
            assert ended(capsys, "validate", *settings(task), change)[0] in (0, 2), change
