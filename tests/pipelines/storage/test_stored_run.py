"""A run at a storage URL: whatever the store does, the newest state that was written whole is read."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from pipelines.errors import RunFailed, UserError
from pipelines.executors.mirrored import restore
from pipelines.storage import object_store
from pipelines.storage.names import LOG, MANIFEST
from pipelines.storage.object_store import ObjectStore, StoreFailed
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import sealed
from pipelines.storage.stored_run import ENDED, OBJECTS, SAVED, Damaged, StoredRun
from pipelines.train.checkpoint import seal
from tests import faulty_store
from tests.faulty_store import Faulty, Killed

STEPS = (10, 20, 30)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(object_store, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nobody pulls the plug here
    faulty_store.start_anew()
    yield
    faulty_store.start_anew()


def stored_run(url="faulty://bucket/runs") -> StoredRun:
    return StoredRun(ObjectStore(url), "abc123")


def train_to(folder: Path, step: int, best: int) -> None:
    """Leave what a run leaves after the checkpoint of a step."""
    folder.mkdir(exist_ok=True)
    (folder / "identity.json").write_text("{}")
    (folder / "run.yaml").write_text("seed: 1\n")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(f'{{"step": {step}}}\n')
    (folder / "predictions.validation.jsonl").write_text(f"of step {best}\n")
    checkpoint = folder / "checkpoints" / f"step-{step:08d}"
    checkpoint.mkdir(parents=True)
    (folder / "checkpoints" / "conditions.json").write_text("{}")
    (checkpoint / "model.safetensors").write_bytes(bytes([step]) * 100)
    (checkpoint / "optimizer.safetensors").write_bytes(bytes([step + 1]) * 200)
    (checkpoint / "state.json").write_text(json.dumps({"best_step": best}))
    seal(checkpoint)


def finish(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_bytes(b"weights" * 20)
    (folder / "model" / "config.json").write_text("{}")
    shutil.rmtree(folder / "checkpoints")
    (folder / MANIFEST).write_text('{"status": "finished"}')


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def restored(tmp_path: Path, url="faulty://bucket/runs") -> dict[str, bytes]:
    """What a machine with an empty scratch gets."""
    folder = tmp_path / f"scratch-{next(NUMBERS)}"
    restore(stored_run(url), folder)
    return content(folder) if folder.exists() else {}


NUMBERS = count()


def make(folder: Path, run: StoredRun, states: dict[int, dict[str, bytes]], done: list[int]) -> None:
    """Train to each of the steps and to the end, and write every state; note what the folder held at each."""
    for step, best in zip(STEPS, (10, 20, 20)):
        train_to(folder, step, best)
        states[step] = content(folder)
        run.save(folder)
        done.append(step)
    finish(folder)
    states[99] = content(folder)
    run.end(folder)
    done.append(99)


def finish_elsewhere(folder: Path) -> None:
    """Another worker goes on from what it finds, to the end."""
    shutil.rmtree(folder, ignore_errors=True)
    run = stored_run()
    restore(run, folder)
    if (folder / MANIFEST).exists():
        return
    for step in STEPS:
        if step > RunFolder(folder).newest_step():
            train_to(folder, step, 10)
            run.save(folder)
    finish(folder)
    run.end(folder)


def of_step(state: dict[str, bytes], step: int, best: int) -> dict[str, bytes]:
    """A state without the checkpoints that resuming does not need."""
    needed = tuple(f"checkpoints/step-{one:08d}/" for one in (step, best))
    return {name: one for name, one in state.items() if "step-" not in name or name.startswith(needed)}


def without_model(state: dict[str, bytes]) -> dict[str, bytes]:
    """What a worker that finds its run ended fetches."""
    return {name: one for name, one in state.items() if not name.startswith("model/")}


@pytest.mark.parametrize("url", ["faulty://bucket/runs", "memory://bucket/runs", "file"])
def test_a_machine_with_an_empty_scratch_gets_the_newest_state_byte_for_byte(tmp_path, url):
    url = f"file://{tmp_path}/store" if url == "file" else url
    run, folder = stored_run(url), tmp_path / "run"
    for step, best in zip(STEPS, (10, 20, 20)):
        train_to(folder, step, best)
        run.save(folder)
        assert restored(tmp_path, url) == of_step(content(folder), step, best)
    finish(folder)
    run.end(folder)
    assert restored(tmp_path, url) == without_model(content(folder))
    ended = run.ended()
    run.fetch(ended, tmp_path / "everything")
    assert content(tmp_path / "everything") == content(folder)


def test_killed_at_any_request_the_newest_state_that_was_written_whole_is_there(tmp_path):
    """Before, in the middle of, or after every write and every deletion of three checkpoints and the end."""
    best_of = dict(zip(STEPS, (10, 20, 20)))
    for when in ("before", "half", "after"):
        for number in count(1):
            faulty_store.start_anew()
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
            left = number

            def fault(operation, path, when=when):
                nonlocal left
                left -= operation in ("write", "delete")
                if left or operation not in ("write", "delete"):
                    return None
                left = -1
                return (Killed(), when) if operation == "write" else Killed()

            Faulty.fault = staticmethod(fault)
            states, done = {}, []
            with suppress(Killed):
                make(tmp_path / "run", stored_run(), states, done)
            Faulty.fault = staticmethod(lambda operation, path: None)
            found = restored(tmp_path)
            newest = max(done, default=0)
            possible = [step for step in states if step >= newest]
            if not done:
                assert found == {} or found == of_step(states[10], 10, 10), (when, number)
            else:
                fits = [
                    without_model(states[step]) if step == 99 else of_step(states[step], step, best_of[step])
                    for step in possible
                ]
                assert found in fits, (when, number, done)
            if newest == 99:
                break
            finish_elsewhere(tmp_path / "other")
            assert restored(tmp_path) == without_model(content(tmp_path / "other")), (when, number)
        assert number > 20


@pytest.mark.parametrize(
    "fault", [OSError("reset"), TimeoutError(), ValueError("odd"), "cut", "other"], ids=str
)
def test_a_request_that_goes_wrong_once_is_made_again(tmp_path, fault):
    seen = set()

    def once(operation, path):
        fits = {"cut": ("write",), "other": ("read",)}.get(fault, ("read", "write", "delete", "list"))
        if operation not in fits or (operation, path) in seen or (fault == "other" and OBJECTS not in path):
            return None
        seen.add((operation, path))
        return (fault, "half") if operation == "write" and fault != "cut" else fault

    Faulty.fault = staticmethod(once)
    folder = tmp_path / "run"
    states = {}
    make(folder, stored_run(), states, [])
    assert restored(tmp_path) == without_model(content(folder))
    assert seen


def test_a_store_that_stays_away_is_one_sentence_and_what_was_there_is_whole(tmp_path):
    folder = tmp_path / "run"
    train_to(folder, 10, 10)
    stored_run().save(folder)
    before = content(folder)
    train_to(folder, 20, 20)
    Faulty.fault = staticmethod(
        lambda operation, path: (TimeoutError(), "half") if operation == "write" else None
    )
    with pytest.raises(
        StoreFailed,
        match=r"^faulty://bucket/runs/cells/abc123/\S+: could not be written "
        r"\(TimeoutError\); when the store answers again, the same command goes on\.$",
    ):
        stored_run().save(folder)
    Faulty.fault = staticmethod(lambda operation, path: None)
    assert restored(tmp_path) == of_step(before, 10, 10)
    stored_run().save(folder)
    assert restored(tmp_path) == of_step(content(folder), 20, 20)


@pytest.mark.parametrize(
    "damage", [lambda one: one[: len(one) // 2], lambda one: bytes([one[0] ^ 4]) + one[1:], None]
)
def test_a_damaged_or_missing_object_is_not_used_but_the_checkpoint_before_it(tmp_path, damage, capsys):
    folder, states = tmp_path / "run", {}
    for step in (10, 20):
        train_to(folder, step, step)
        states[step] = content(folder)
        stored_run().save(folder)
    older, newer = (set(record.objects) for record in reversed(stored_run().saved()))
    digest = min(newer - older)
    path = f"/bucket/runs/cells/abc123/{OBJECTS}/{digest}"
    kept = Faulty.store.pop(path).getvalue()
    if damage is not None:
        Faulty().pipe_file(path, damage(kept))
    assert restored(tmp_path) == of_step(states[10], 10, 10)
    assert (
        f"step 20: not used: faulty://bucket/runs/cells/abc123/{OBJECTS}/{digest}" in capsys.readouterr().out
    )


def test_a_damaged_object_is_written_again_by_the_worker_that_found_it(tmp_path):
    folder = tmp_path / "run"
    for step in (10, 20):
        train_to(folder, step, step)
        stored_run().save(folder)
    name = next(one for one in Faulty.store if one.endswith(sorted(stored_run().saved()[0].objects)[0]))
    Faulty().pipe_file(name, bytes(len(Faulty.store[name].getvalue())))
    run = stored_run()
    with pytest.raises(Damaged):
        run.fetch(run.saved()[0], tmp_path / "other")
    train_to(folder, 30, 20)
    run.save(folder)
    assert restored(tmp_path) == of_step(content(folder), 30, 20)


def test_a_run_of_which_nothing_is_whole_does_not_start_over_by_itself(tmp_path):
    folder = tmp_path / "run"
    for step in (10, 20):
        train_to(folder, step, step)
        stored_run().save(folder)
    for slot in SAVED:
        Faulty().pipe_file(f"/bucket/runs/cells/abc123/{slot}", b"{")
    with pytest.raises(
        RunFailed, match=r"nothing there is whole any more .*; to make the run again, delete all"
    ):
        restored(tmp_path)
    finish(folder)
    stored_run().end(folder)
    Faulty().pipe_file(f"/bucket/runs/cells/abc123/{ENDED}", b"{")
    with pytest.raises(RunFailed, match="nothing there is whole any more"):
        restored(tmp_path)


def test_a_record_with_another_bit_is_not_used(tmp_path):
    folder, states = tmp_path / "run", {}
    for step in (10, 20):
        train_to(folder, step, step)
        states[step] = content(folder)
        stored_run().save(folder)
    path = f"/bucket/runs/cells/abc123/{SAVED[1]}"
    Faulty().pipe_file(path, Faulty.store[path].getvalue().replace(b'"step": 20', b'"step": 21'))
    assert restored(tmp_path) == of_step(states[10], 10, 10)


def test_a_list_that_lags_hides_no_checkpoint(tmp_path):
    Faulty.fault = staticmethod(lambda operation, path: "lag" if operation == "list" else None)
    folder, states = tmp_path / "run", {}
    make(folder, stored_run(), states, [])
    assert restored(tmp_path) == without_model(states[99])


def test_a_finished_run_leaves_its_files_once_and_nothing_of_its_checkpoints(tmp_path):
    folder = tmp_path / "run"
    make(folder, stored_run(), {}, [])
    names = {name.rpartition("abc123/")[2].partition("/")[0] for name in Faulty.store}
    assert names == {OBJECTS, ENDED}
    assert sum(OBJECTS in name for name in Faulty.store) == len(set(content(folder).values()))


@pytest.mark.parametrize(
    "name", ["../escaped", "/escaped", "model/../../escaped", "C:\\escaped", "model/deep/er", "notes.txt", ""]
)
def test_a_record_that_names_a_file_elsewhere_is_refused_and_nothing_is_written(tmp_path, name):
    folder = tmp_path / "inner" / "run"
    folder.parent.mkdir()
    train_to(folder, 10, 10)
    run = stored_run()
    run.save(folder)
    record = json.loads(Faulty.store[f"/bucket/runs/cells/abc123/{SAVED[0]}"].getvalue())
    files = {**record["files"], name: record["files"]["run.yaml"]}
    Faulty().pipe_file(
        f"/bucket/runs/cells/abc123/{SAVED[0]}", json.dumps(sealed({"step": 10, "files": files})).encode()
    )
    with pytest.raises(RunFailed, match="which no run writes, so nothing of it is read"):
        restored(tmp_path / "inner")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inner"]


def test_a_link_in_the_folder_of_a_run_leads_nothing_out_of_it(tmp_path):
    train_to(tmp_path / "run", 10, 10)
    run = stored_run()
    run.save(tmp_path / "run")
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here" / "checkpoints").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFailed, match="leaves the folder of the run"):
        run.fetch(run.saved()[0], tmp_path / "here")
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_folder_that_is_ahead_of_the_store_stays_as_it_is(tmp_path):
    """An upload failed, and the run starts again on the same machine."""
    folder = tmp_path / "run"
    train_to(folder, 10, 10)
    stored_run().save(folder)
    train_to(folder, 20, 20)
    before = content(folder)
    restore(stored_run(), folder)
    assert content(folder) == before


def test_a_folder_that_is_ahead_and_damaged_gives_way_to_the_store(tmp_path):
    folder = tmp_path / "run"
    train_to(folder, 10, 10)
    stored_run().save(folder)
    expected = of_step(content(folder), 10, 10)
    train_to(folder, 20, 20)
    (folder / "checkpoints" / "step-00000020" / "model.safetensors").write_bytes(b"")
    restore(stored_run(), folder)
    assert content(folder) == expected


def test_a_folder_that_is_ahead_under_other_conditions_gives_way_to_the_store(tmp_path):
    folder = tmp_path / "run"
    train_to(folder, 10, 10)
    stored_run().save(folder)
    expected = of_step(content(folder), 10, 10)
    train_to(folder, 20, 20)
    (folder / "checkpoints" / "conditions.json").write_text('{"device": "cuda"}')
    restore(stored_run(), folder)
    assert content(folder) == expected


def test_the_log_of_the_last_start_is_there_for_the_next(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOG).write_text("step 10\n")
    stored_run().put_notes(tmp_path / "run")
    stored_run().fetch_notes(tmp_path / "other")
    assert content(tmp_path / "other") == {LOG: b"step 10\n"}


@pytest.mark.parametrize("error", [PermissionError("403"), NotImplementedError("read-only")])
def test_what_the_store_refuses_is_not_asked_for_again(error):
    Faulty.fault = staticmethod(lambda operation, path: (error, "before"))
    with pytest.raises(
        StoreFailed, match=r"could not be written .*; correct that, then the same command goes on"
    ):
        ObjectStore("faulty://bucket").write("name", b"content")
    assert len(Faulty.requests) == 1


def test_a_driver_that_is_not_installed_is_named_with_the_line_that_installs_it(monkeypatch):
    def missing(protocol):
        raise ImportError("Install s3fs to access S3") from ModuleNotFoundError(name="s3fs")

    monkeypatch.setattr(object_store.fsspec, "get_filesystem_class", missing)
    with pytest.raises(UserError, match=r"needs the package s3fs.*; pip install s3fs\.$"):
        ObjectStore("s3://bucket/runs")


def test_a_protocol_that_nobody_knows_is_refused():
    with pytest.raises(UserError, match=r"store: fsspec knows no ftps4://"):
        ObjectStore("ftps4://bucket/runs")
