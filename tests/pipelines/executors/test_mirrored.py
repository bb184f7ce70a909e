"""Run folders at a storage URL: machines that share no folder make the runs, with the bits of one machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from pipelines.ablation.at_url import AblationAtUrl
from pipelines.ablation.folder import open_ablation
from pipelines.cli.main import main
from pipelines.config.load import load_ablation
from pipelines.errors import UserError
from pipelines.executors.select import executor_of
from pipelines.publish.ablation_repository import records
from pipelines.storage import lease, object_store
from pipelines.storage.object_store import ObjectStore
from pipelines.storage.sealed import sealed
from tests import faulty_store
from tests.conftest import REPOSITORY
from tests.faulty_store import Faulty
from tests.pipelines import stored_ablation as made
from tests.pipelines.actions.test_status import states
from tests.pipelines.executors.test_executors import RESULTS, names, write
from tests.pipelines.waiting import wait_for
from tests.test_engines import SLOW

BITS = (*RESULTS, "model/model.safetensors")


def bits(out: Path) -> dict[tuple[str, str], bytes]:
    """What each run came to, by its folder's name."""
    return {
        (name, file): (out.parent / "cells" / name / file).read_bytes()
        for name in names(out).values()
        for file in BITS
    }


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(object_store, "WAITS", (0.0,))
    faulty_store.start_anew()
    yield
    faulty_store.start_anew()


@pytest.fixture(scope="module")
def on_one_machine(tmp_path_factory):
    """The two runs in a folder of this machine."""
    folder = tmp_path_factory.mktemp("local")
    assert main(["ablate", str(write(folder)), "--out", str(folder / "runs" / "toy"), "--jobs", "2"]) == 0
    return bits(folder / "runs" / "toy")


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The scratch folders of two machines; the first is this process's."""
    found = [tmp_path / "node-1", tmp_path / "node-2"]
    for folder in found:
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(found[0]))
    return found


def at_url(tmp_path: Path, url: str, *options: str, **changes) -> tuple[int, Path]:
    """Start the ablation with its runs at a URL; its exit status and its folder."""
    out = tmp_path / "runs" / "toy"
    return main(["ablate", str(write(tmp_path, store=url, **changes)), "--out", str(out), *options]), out


def test_the_local_executor_writes_the_runs_there_and_a_lost_folder_comes_back_with_its_bits(
    tmp_path, on_one_machine, capsys
):
    url = f"file://{tmp_path}/store"
    status, out = at_url(tmp_path, url, "--jobs", "2")
    assert status == 0
    assert bits(out) == on_one_machine
    registration = (out / "registration.json").read_bytes()
    shutil.rmtree(tmp_path / "runs")
    capsys.readouterr()
    assert at_url(tmp_path, url)[0] == 0
    assert "2 runs, 2 ended before" in capsys.readouterr().err
    assert bits(out) == on_one_machine
    assert (out / "registration.json").read_bytes() == registration
    assert main(["verify", str(out)]) == 0
    assert main(["report", str(out)]) == 0
    assert set(states(out).values()) == {"finished"}


def test_runs_that_ended_before_there_was_a_store_are_written_there(tmp_path, on_one_machine, capsys):
    file, out = write(tmp_path), tmp_path / "runs" / "toy"
    assert main(["ablate", str(file), "--out", str(out), "--jobs", "2"]) == 0
    assert at_url(tmp_path, f"file://{tmp_path}/store")[0] == 0
    shutil.rmtree(tmp_path / "runs")
    capsys.readouterr()
    assert at_url(tmp_path, f"file://{tmp_path}/store")[0] == 0
    assert "2 runs, 2 ended before" in capsys.readouterr().err
    assert bits(out) == on_one_machine


def test_weights_that_are_not_kept_are_kept_nowhere(tmp_path):
    status, out = at_url(tmp_path, f"file://{tmp_path}/store", "--jobs", "2", keep="none")
    assert status == 0
    manifests = [json.loads(path.read_text()) for path in out.parent.glob("cells/*/manifest.json")]
    weights = {manifest["files"]["model/model.safetensors"] for manifest in manifests}
    assert len(weights) == 2
    assert not weights & {path.name for path in (tmp_path / "store").rglob("objects/*")}
    shutil.rmtree(tmp_path / "runs" / "cells")
    assert at_url(tmp_path, f"file://{tmp_path}/store", keep="none")[0] == 0
    assert main(["verify", str(out)]) == 0


def test_a_killed_worker_whose_scratch_is_lost_is_followed_by_another_with_the_same_bits(
    tmp_path, scratch, capsys
):
    """By the lines of --prepare; the ablation's own machine makes no run."""
    (tmp_path / "slow.py").write_text(SLOW.replace("time.sleep(1.0)", "time.sleep(0.1)"))
    changes = {"arms": {"stock": [], "slow": ["slow:Slow"]}, "keep": "model"}
    slowly = tmp_path / "slowly"
    os.environ["ATTNLAB_SLOWLY"] = str(slowly)
    sys.path.insert(0, str(tmp_path))
    try:
        local = tmp_path / "local" / "toy"
        assert main(["ablate", str(write(tmp_path, **changes)), "--out", str(local), "--jobs", "2"]) == 0
        capsys.readouterr()
        status, out = at_url(tmp_path, f"file://{tmp_path}/store", "--prepare", **changes)
        assert status == 0
        commands = [line.split()[1:] for line in capsys.readouterr().out.splitlines()]
        assert {command[1] for command in commands} == {f"file://{tmp_path}/store/toy"}
        run = names(out)["slow"]

        slowly.touch()
        environment = {"TMPDIR": str(scratch[1]), "PYTHONPATH": f"{REPOSITORY}:{tmp_path}"}
        command = [sys.executable, "-m", "pipelines", "run-cell", commands[0][1], run]
        worker = subprocess.Popen(command, cwd=tmp_path, env=os.environ | environment, stderr=subprocess.PIPE)
        store = tmp_path / "store" / "cells" / run
        wait_for(lambda: (store / "saved-1.json").exists(), worker)
        assert states(out) == {("stock", 1): "waiting", ("slow", 1): "running"}
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        shutil.rmtree(scratch[1])
        assert main(["status", str(out)]) == 0
        assert states(out) == {("stock", 1): "waiting", ("slow", 1): "stopped"}
        slowly.unlink()

        for arguments in commands:
            assert main(arguments) == 0
        assert not any(scratch[0].rglob("manifest.json"))
        assert at_url(tmp_path, f"file://{tmp_path}/store", **changes)[0] == 0
        assert "resumed at step" in (out.parent / "cells" / run / "log.txt").read_text()
        assert bits(out) == bits(local)
        assert main(["verify", str(out)]) == 0
    finally:
        sys.path.remove(str(tmp_path))
        del os.environ["ATTNLAB_SLOWLY"]


def test_a_store_that_fails_at_the_end_loses_nothing_and_the_same_command_goes_on(
    tmp_path, scratch, on_one_machine, capsys
):
    _, out = at_url(tmp_path, "faulty://bucket/runs", "--prepare")
    run = names(out)["gate"]
    command = ["run-cell", "faulty://bucket/runs/toy", run]
    Faulty.fault = staticmethod(
        lambda operation, path: (TimeoutError(), "half") if operation == "write" and "ended" in path else None
    )
    capsys.readouterr()
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "ended.json: could not be written (TimeoutError); when the store answers again" in said
    assert "Traceback" not in said
    Faulty.fault = staticmethod(lambda operation, path: None)
    assert main(command) == 0
    AblationAtUrl("faulty://bucket/runs", out).fetch_results(open_ablation(out).cells)
    folder = out.parent / "cells" / run
    assert "is finished; nothing to do" in (folder / "log.txt").read_text()
    for file in RESULTS:
        assert (folder / file).read_bytes() == on_one_machine[run, file]


def test_a_store_that_is_away_while_a_run_trains_does_not_stop_it(tmp_path, scratch, on_one_machine):
    _, out = at_url(tmp_path, "faulty://bucket/runs", "--prepare")
    run = names(out)["gate"]
    Faulty.fault = staticmethod(
        lambda operation, path: (
            (OSError("away"), "half") if operation == "write" and "saved" in path else None
        )
    )
    assert main(["run-cell", "faulty://bucket/runs/toy", run]) == 0
    Faulty.fault = staticmethod(lambda operation, path: None)
    AblationAtUrl("faulty://bucket/runs", out).fetch_results(open_ablation(out).cells)
    folder = out.parent / "cells" / run
    assert "the checkpoint of step 3 is only here so far: faulty://bucket" in (folder / "log.txt").read_text()
    for file in RESULTS:
        assert (folder / file).read_bytes() == on_one_machine[run, file]


def test_a_worker_leaves_a_run_that_another_machine_works_on(tmp_path, scratch, capsys):
    _, out = at_url(tmp_path, "faulty://bucket/runs", "--prepare")
    run = names(out)["gate"]
    store = ObjectStore("faulty://bucket/runs")
    other = lease.Lease("other", "node7", "another", 1, "1", time.time())
    store.write(f"cells/{run}/{lease.LEASE}", json.dumps(asdict(other)).encode())
    capsys.readouterr()
    assert main(["run-cell", "faulty://bucket/runs/toy", run]) == 75
    assert "another process works on it" in capsys.readouterr().err
    assert sorted(states(out).values()) == ["running", "waiting"]


def test_cancelled_on_one_machine_no_other_begins_a_run(tmp_path, scratch, capsys):
    _, out = at_url(tmp_path, "faulty://bucket/runs", "--prepare")
    assert main(["status", str(out), "--cancel"]) == 0
    assert main(["run-cell", "faulty://bucket/runs/toy", names(out)["gate"]]) == 75
    assert not any(name.endswith("saved-0.json") for name in Faulty.store)
    at_url(tmp_path, "faulty://bucket/runs", "--prepare")
    assert not any(name.endswith("cancelled") for name in Faulty.store)


def test_another_ablation_of_the_same_name_is_refused(tmp_path, capsys):
    at_url(tmp_path / "one", "faulty://bucket/runs", "--prepare")
    assert (
        at_url(tmp_path / "two", "faulty://bucket/runs", "--prepare")[0] == 0
    )  # a new folder: it comes back
    shutil.rmtree(tmp_path / "two")
    write(tmp_path / "two", arms={"stock": [], "temperature": ["temperature"]})
    out = tmp_path / "two" / "runs" / "toy"
    file = tmp_path / "two" / "ablation.yaml"
    assert main(["ablate", str(file), "--out", str(out), "--prepare"]) == 0
    capsys.readouterr()
    assert main(["ablate", str(file), "--out", str(out), "--prepare", "store=faulty://bucket/runs"]) == 2
    assert "holds another ablation called toy" in capsys.readouterr().err


@pytest.mark.parametrize("store", [[], ["store=faulty://other/runs"]])
def test_an_ablation_does_not_leave_its_store_by_an_option_that_was_forgotten(tmp_path, store, capsys):
    _, out = at_url(tmp_path, "faulty://bucket/runs", "--prepare")
    capsys.readouterr()
    assert main(["ablate", str(write(tmp_path)), "--out", str(out), "--prepare", *store]) == 2
    assert "are at faulty://bucket/runs so far" in capsys.readouterr().err


def test_fresh_runs_that_the_store_knows_are_refused(tmp_path, capsys):
    """The folder that remembered them is lost, so that they would count as new."""
    _, out = at_url(tmp_path, "faulty://bucket/runs", "--prepare", "--fresh")
    for name in names(out).values():
        record = json.dumps(sealed({"step": 1, "files": {}})).encode()
        ObjectStore("faulty://bucket/runs").write(f"cells/{name}/ended.json", record)
    shutil.rmtree(tmp_path / "runs")
    capsys.readouterr()
    assert at_url(tmp_path, "faulty://bucket/runs", "--prepare", "--fresh")[0] == 2
    assert "--fresh: has the run " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["..", "cells", "cache", "absent"])
def test_an_address_that_is_no_ablation_is_refused(name, scratch, capsys):
    assert main(["run-cell", f"faulty://bucket/runs/{name}", "abc"]) == 2
    said = capsys.readouterr().err
    assert "is not the URL of an ablation" in said or "there is no ablation" in said
    assert not list(scratch[0].rglob("*.yaml"))


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("s3://key:secret@bucket/runs", "is no storage URL"),
        ("https://host/runs?token=1", "is no storage URL"),
        ("simplecache::s3://bucket/runs", "is no storage URL"),
        ("s3://bucket/../other", "is no storage URL"),
        ("runs", "is no storage URL"),
        ("file://runs", "names no folder by its whole path"),
        ("file:///", "names no folder by its whole path"),
    ],
)
def test_a_url_with_a_secret_or_without_a_place_is_refused(tmp_path, url, what):
    with pytest.raises(UserError, match=what):
        load_ablation(str(write(tmp_path, store=url)))


def test_slurm_whose_jobs_need_a_shared_folder_says_so(tmp_path):
    config = load_ablation(str(write(tmp_path, store="faulty://bucket/runs")))
    with pytest.raises(UserError, match=r"^store: slurm makes its runs in a folder that all machines see"):
        executor_of(config, tmp_path, print, name="slurm", jobs=None)


def test_jobs_of_the_hub_and_of_kubernetes_need_neither_a_bucket_nor_a_volume_then(tmp_path, capsys):
    url, settings = "faulty://bucket/runs", ("hf_jobs.image=one:1", "kubernetes.image=one:1")
    _, out = at_url(tmp_path, url, "--prepare", "--executor", "hf-jobs", *settings)
    commands = capsys.readouterr().out.splitlines()
    assert all("--volume" not in line and f"attnlab run-cell {url}/toy " in line for line in commands)
    assert len(commands) == 2
    at_url(tmp_path, url, "--prepare", "--executor", "kubernetes", *settings)
    job = yaml.safe_load((out / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"][3] == f"{url}/toy"
    assert set(pod["containers"][0]["command"][4:]) == {*names(out).values()}
    assert pod["volumes"] == []


def test_a_pushed_ablation_does_not_tell_where_its_runs_were(tmp_path):
    folder = made.write(tmp_path, seeds=[1])
    values = yaml.safe_load((folder / "ablation.yaml").read_text())
    (folder / "ablation.yaml").write_text(yaml.safe_dump(values | {"store": "faulty://secret-bucket/runs"}))
    (tmp_path / "pushed").mkdir()
    records(open_ablation(folder), tmp_path / "pushed")
    pushed = yaml.safe_load((tmp_path / "pushed" / "ablation" / "ablation.yaml").read_text())
    assert pushed["store"] is None


def test_the_processes_of_a_run_share_the_scratch_and_their_checkpoints_are_in_the_store(
    tmp_path, scratch, monkeypatch
):
    url = f"file://{tmp_path}/store"
    _, out = at_url(tmp_path, url, "--prepare", set={"processes": 2}, arms={"stock": []})
    [run] = names(out).values()
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    kept = tmp_path / "store" / "cells" / run
    assert main(["run-cell", f"{url}/toy", run]) == 0
    assert (kept / "ended.json").exists()
    assert "only here so far" not in (kept / "log.txt").read_text()
    assert not any(scratch[0].rglob("manifest.json"))


def test_ranks_of_another_launcher_are_refused(tmp_path, scratch, monkeypatch, capsys):
    at_url(tmp_path, "faulty://bucket/runs", "--prepare")
    [first, _] = open_ablation(tmp_path / "runs" / "toy").cells
    monkeypatch.setenv("RANK", "1")
    assert main(["run-cell", "faulty://bucket/runs/toy", first.folder.name]) == 2
    assert "are started by attnlab, on one machine" in capsys.readouterr().err
