"""Status reads what runs have written and asks who works on them; it takes nothing and changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest

from pipelines.ablation import cost
from pipelines.ablation.folder import open_ablation
from pipelines.actions.status import screen, sentences
from pipelines.cli.main import main
from pipelines.executors.run_state import run_states
from pipelines.storage.lock import is_held, lock
from pipelines.storage.sealed import sealed
from pipelines.terminal import Terminal
from tests.pipelines import stored_ablation as made

HOLD = "import sys; from pathlib import Path; from pipelines.storage.lock import lock\n"
HOLD += "with lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


@contextmanager
def held_elsewhere(path: Path):
    """Another process that holds the lock on a run folder."""
    path.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", HOLD, str(path / ".lock")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    try:
        yield
    finally:
        process.kill()
        process.wait()


def states(folder: Path) -> dict[tuple[str, int], str]:
    return {(one.cell.arm, one.cell.seed): one.state for one in run_states(open_ablation(folder))}


def step(number: int, seconds: float, loss: float | str = 0.5) -> str:
    event = {"event": "step", "step": number, "epoch": number / 20, "loss": loss, "seconds": seconds}
    return json.dumps(event) + "\n"


def test_every_state_is_recognized(tmp_path):
    folder = made.write(tmp_path, finished=[1], seeds=[1, 2, 3])
    stopped, failed = made.run_folder(folder, "stock", 2), made.run_folder(folder, "gate", 2)
    for path in (stopped, failed):
        path.mkdir()
    (stopped / "metrics.jsonl").write_text(step(10, 4.0))
    (failed / "failure.txt").write_text("killed by SIGKILL\n")
    diverged = made.run_folder(folder, "gate", 1) / "manifest.json"
    changed = json.loads(diverged.read_text()) | {"status": "diverged", "diverged_at": 7}
    diverged.write_text(json.dumps(sealed(changed)))
    with held_elsewhere(made.run_folder(folder, "stock", 3)):
        found = states(folder)
    assert found == {
        ("stock", 1): "finished",
        ("stock", 2): "stopped",
        ("stock", 3): "running",
        ("gate", 1): "diverged",
        ("gate", 2): "failed",
        ("gate", 3): "waiting",
    }


def test_a_running_run_tells_step_loss_rate_and_time_left(tmp_path):
    folder = made.write(tmp_path, finished=[1], seeds=[1, 2])
    path = made.run_folder(folder, "gate", 2)
    with held_elsewhere(path):
        (path / "metrics.jsonl").write_text(step(10, 4.0) + step(20, 6.0, 0.25) + '{"event": "st')
        one = next(one for one in run_states(open_ablation(folder)) if one.state == "running")
    assert (one.step, one.num_steps, one.loss) == (20, 40, 0.25)
    assert one.steps_per_second == pytest.approx(5.0)
    assert one.seconds_left == pytest.approx(6.0)  # half of the 12 s that runs of the cell took


def test_the_steps_of_a_run_follow_from_its_epochs_where_no_number_is_stated(tmp_path):
    run = {key: value for key, value in made.RUN.items() if key != "max_steps"} | {"num_epochs": 3}
    folder = made.write(tmp_path, finished=[], seeds=[1], cells=["toy"])
    stated = made.config(seeds=[1]).to_dict()
    stated["cells"]["toy"] = run
    (folder / "ablation.yaml").write_text(json.dumps(stated))
    path = made.run_folder(folder, "stock", 1)
    path.mkdir(parents=True)
    (path / "metrics.jsonl").write_text(step(10, 4.0))  # half an epoch
    assert run_states(open_ablation(folder))[0].num_steps == 60


def test_a_loss_that_is_not_finite_is_no_number(tmp_path):
    folder = made.write(tmp_path, finished=[], seeds=[1])
    path = made.run_folder(folder, "stock", 1)
    path.mkdir(parents=True)
    (path / "metrics.jsonl").write_text(step(10, 4.0, "nan"))
    assert run_states(open_ablation(folder))[0].loss is None


def test_the_time_left_is_shared_by_the_runs_at_work(tmp_path):
    folder = made.write(tmp_path, finished=[1], seeds=[1, 2])
    with (
        held_elsewhere(made.run_folder(folder, "stock", 2)),
        held_elsewhere(made.run_folder(folder, "gate", 2)),
    ):
        first, *_ = sentences(run_states(open_ablation(folder)))
    assert first == "4 runs: 2 finished, 2 running; about 12 s left, 2 at a time"


def test_it_changes_no_file_and_leaves_the_lock_where_it_is(tmp_path, capsys):
    folder = made.write(tmp_path, finished=[1], seeds=[1, 2])
    path = made.run_folder(folder, "stock", 2)
    with held_elsewhere(path):
        before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
        assert main(["status", str(folder)]) == 0
        assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
        assert is_held(path / ".lock")
    assert "running" in capsys.readouterr().out


def test_a_lock_is_seen_while_it_is_held_and_not_after(tmp_path):
    assert not is_held(tmp_path / "run" / ".lock")
    with held_elsewhere(tmp_path / "run"):
        assert is_held(tmp_path / "run" / ".lock")
    assert (tmp_path / "run" / ".lock").exists()
    assert not is_held(tmp_path / "run" / ".lock")
    with lock(tmp_path / "run" / ".lock"):
        pass


def test_watching_ends_when_every_run_has_ended(tmp_path, capsys, monkeypatch):
    folder = made.write(tmp_path)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it waits for a run that has ended"))
    assert main(["status", str(folder), "--watch"]) == 0
    assert "6 finished" in capsys.readouterr().out


def test_another_folder_is_refused_by_what_it_lacks(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 2
    assert "it has no ablation.yaml" in capsys.readouterr().err


def test_only_folders_that_no_ablation_names_are_unused_and_none_at_work_is_removed(tmp_path, capsys):
    folder = made.reported(tmp_path)
    made.write(tmp_path, "other", arms=["stock", "temperature"])
    (tmp_path / "other" / "runs.json").write_text(
        json.dumps({"toy/stock/1": made.run_folder(folder, "stock", 1).name})
    )
    before = sorted(path.name for path in (tmp_path / "cells").iterdir())
    mine = set(json.loads((folder / "runs.json").read_text()).values())
    unused = [name for name in before if name not in mine]
    assert len(unused) == 3  # the temperature runs, which "other" does not name any more
    assert main(["status", str(folder), "--unused"]) == 0
    assert "--delete removes them" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "cells").iterdir()) == before
    with held_elsewhere(tmp_path / "cells" / unused[0]):
        assert main(["status", str(folder), "--unused", "--delete"]) == 0
    left = {path.name for path in (tmp_path / "cells").iterdir()}
    assert left == mine | {unused[0]}


def test_a_damaged_list_of_runs_makes_nothing_unused(tmp_path, capsys):
    folder = made.write(tmp_path)
    made.write(tmp_path, "other", arms=["stock", "temperature"])
    (tmp_path / "other" / "runs.json").write_text('{"toy/st')
    before = sorted((tmp_path / "cells").iterdir())
    assert main(["status", str(folder), "--unused", "--delete"]) == 2
    assert "runs.json: is damaged" in capsys.readouterr().err
    assert sorted((tmp_path / "cells").iterdir()) == before


def test_a_lost_list_of_runs_makes_nothing_unused(tmp_path, capsys):
    lost, other = made.write(tmp_path, "lost"), made.write(tmp_path, "other", cells=["second"])
    (lost / "runs.json").unlink()
    before = sorted((tmp_path / "cells").iterdir())
    assert main(["status", str(other), "--unused", "--delete"]) == 2
    what = f"{lost}: has registration.json, but no runs.json, so nobody knows which runs it uses; "
    assert capsys.readouterr().err.startswith(what)
    assert sorted((tmp_path / "cells").iterdir()) == before


def test_delete_without_unused_is_refused(tmp_path, capsys):
    assert main(["status", str(made.write(tmp_path)), "--delete"]) == 2


@pytest.mark.parametrize(
    ("seconds", "said"), [(4.2, "4 s"), (89, "89 s"), (600, "10 min"), (5399, "90 min"), (9000, "2.5 h")]
)
def test_durations_are_said_in_the_unit_that_fits(seconds, said):
    assert cost.duration(seconds) == said


def test_watching_fits_the_screen_and_shows_what_is_at_work_first(tmp_path):
    folder = made.write(tmp_path, finished=[], seeds=range(1, 41))
    at_work = made.run_folder(folder, "gate", 40)
    with held_elsewhere(at_work):
        states_now = run_states(open_ablation(folder))
    for height in (20, 8):
        console = Terminal(width=80, file=StringIO())
        console.height = height
        console.print(screen(states_now, console))
        lines = console.file.getvalue().splitlines()
        assert len(lines) < height
        assert any(" 40 " in line and "running" in line for line in lines)
        assert any(line.startswith("80 runs: ") for line in lines)
        assert any("more runs; attnlab status without --watch lists all" in line for line in lines)


def test_a_run_takes_one_line_of_80_columns_and_empty_columns_are_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    folder = made.write(tmp_path, seeds=[1, 2], cells=["reviews-bert-tiny"])
    assert main(["status", str(folder)]) == 0
    heading, _, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["Cell", "Arm", "Seed", "Status", "Step", "Loss", "Score"]
    assert [line.split()[:4] for line in lines[:4]] == [
        ["reviews-bert-tiny", arm, seed, "finished"] for arm in ("stock", "gate") for seed in "12"
    ]


def test_an_interrupted_watch_ends_with_one_line_and_success(tmp_path, capsys, monkeypatch):
    folder = made.write(tmp_path, finished=[1], seeds=[1, 2])

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    assert main(["status", str(folder), "--watch"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "stopped watching; the runs are not affected"
    assert said.err == ""
