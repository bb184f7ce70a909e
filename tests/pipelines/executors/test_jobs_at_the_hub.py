"""`ablate --executor hf-jobs` against a Hub on loopback that answers as its client expects, with faults.

The runs are made up, so that a job takes no time; real ones run in tests/test_engines.py.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from huggingface_hub import close_session, constants, set_client_factory
from huggingface_hub.utils._http import default_client_factory

from pipelines.ablation.cell import outcome_of
from pipelines.ablation.folder import find_cell, open_ablation
from pipelines.cli.main import main
from pipelines.config.engines import HfJobsConfig
from pipelines.config.load import run_from_dict
from pipelines.distributed.stop import StopRequest
from pipelines.errors import UserError
from pipelines.executors import cancellation, hf_jobs, hub_queue, retries
from pipelines.hub import secrets, worker
from pipelines.runs import identity
from pipelines.storage.names import FAILURE
from pipelines.storage.object_store import ObjectStore
from pipelines.storage.stored_run import StoredRun
from tests.pipelines import stored_ablation
from tests.pipelines.actions.test_status import held_elsewhere
from tests.pipelines.hub.conftest import know_only
from tests.pipelines.hub.connection import Fault
from tests.pipelines.hub.double import READER, WRITER
from tests.pipelines.hub.jobs_double import Job, JobsHub

KEY = "a-key-that-nobody-may-see"  # the value of a secret
WORDS = ["hf_jobs.image=registry.example/attnlab:1", "hf_jobs.bucket=lab/runs", "hf_jobs.flavor=a10g-small"]


def finishes(job: Job) -> tuple[str, str | None]:
    """Work of a job whose run ends well."""
    folder = Path(job.asked["command"][-2])
    cell = find_cell(folder, job.run)
    config = run_from_dict(cell.config)
    stored_ablation.finish(cell.folder, config, identity.describe(config))
    return "COMPLETED", None


def after(number: int, work: Callable[[Job], tuple[str, str | None]]):
    """Work that is `work` for the first jobs of a run, so many, and then ends well."""
    tries: dict[str, int] = {}

    def one(job: Job) -> tuple[str, str | None]:
        tries[job.run] = tries.get(job.run, 0) + 1
        return work(job) if tries[job.run] <= number else finishes(job)

    return one


def fails(reason: str):
    """Work of a job whose run fails, and says why."""

    def work(job: Job) -> tuple[str, str | None]:
        cell = find_cell(Path(job.asked["command"][-2]), job.run)
        cell.folder.mkdir(parents=True, exist_ok=True)
        (cell.folder / FAILURE).write_text(f"{reason}\n")
        return "ERROR", "Job failed with exit code: 2"

    return work


def stops(job: Job) -> tuple[str, str | None]:
    """Work of a job whose run was asked to stop."""
    return "ERROR", "Job failed with exit code: 75"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The only Hub that there is; what would ask it in a process of its own asks it in this one."""
    with JobsHub(finishes) as running:
        know_only(running, tmp_path, monkeypatch)
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("ATTNLAB_HUB_PATIENCE", "2")
        monkeypatch.setenv("WANDB_API_KEY", KEY)

        def ask(action, request):
            secrets.refuse_request(request)
            sent = json.loads(json.dumps({"action": action, **request}, default=str))
            return worker._result(json.loads(json.dumps(worker._answer(sent))))

        for module in (hf_jobs, hub_queue):
            monkeypatch.setattr(module, "ask", ask)
        yield running
    set_client_factory(default_client_factory)
    close_session()


class Watched:
    """An ablation of two or more runs, and what an executor says of them."""

    def __init__(self, root: Path, **changes) -> None:
        self.folder = stored_ablation.write(root / "runs", finished=[], **{"seeds": [1]} | changes)
        self.cells = open_ablation(self.folder).cells
        self.mount, self.said, self.ends = root, [], {}
        self.say = self.said.append

    def run(self, stop: StopRequest | None = None, **settings) -> dict[str, tuple[str, str]]:
        """Run it; return how each arm ended, and why."""
        values = {"image": "i", "bucket": "lab/runs", "mount": str(self.mount), **settings}
        executor = hf_jobs.HfJobsExecutor(HfJobsConfig(**values), self.folder, self.say)

        def on_outcome(cell, outcome):
            self.ends[cell.arm] = outcome.status, outcome.reason

        missing = [cell for cell in self.cells if self.ends.get(cell.arm, ("",))[0] != "finished"]
        executor.run(missing, stop=stop or StopRequest(), on_outcome=on_outcome)
        return self.ends


@pytest.fixture
def watched(tmp_path) -> Watched:
    return Watched(tmp_path)


FINISHED = {"stock": ("finished", ""), "gate": ("finished", "")}


@pytest.fixture
def ablate(hub, tmp_path, capsys):
    """Run `attnlab ablate` on an ablation of two runs; return its status and what it printed."""
    values = {"cells": {"toy": stored_ablation.RUN}, "arms": {"stock": [], "gate": ["gate"]}, "seeds": [1]}
    file, out = tmp_path / "my.yaml", tmp_path / "runs" / "mine"
    file.write_text(yaml.safe_dump(values | {"primary": {"ner": "f1"}, "margin": {"f1": 0.5}}))

    def call(*words: str) -> tuple[int, str]:
        fixed = ["ablate", str(file), "--out", str(out), "--executor", "hf-jobs", f"hf_jobs.mount={tmp_path}"]
        status = main([*fixed, *WORDS, *words])
        said = capsys.readouterr()
        return status, said.out + said.err

    return call


# ---- what a job is


def test_each_missing_run_is_a_job_and_no_secret_is_written_down(hub, ablate, tmp_path):
    words = ["hf_jobs.minutes=90", "hf_jobs.secrets=[WANDB_API_KEY]", "hf_jobs.env={NCCL_DEBUG: WARN}"]
    status, said = ablate(*words)
    assert status == 0, said
    assert "2 jobs of the Hub on a10g-small started, the first: " in said
    out = tmp_path / "runs" / "mine"
    assert {job.run for job in hub.jobs} == {cell.folder.name for cell in open_ablation(out).cells}
    asked = hub.jobs[0].asked
    seconds = 90 * 60
    assert asked["command"] == [
        *("timeout", "--preserve-status", "--signal=TERM", f"{seconds - 120}s"),
        *("attnlab", "run-cell", str(out), hub.jobs[0].run),
    ]
    assert asked["environment"] == {"NCCL_DEBUG": "WARN"}
    assert asked["secrets"] == {"WANDB_API_KEY": KEY}
    assert (asked["flavor"], asked["timeoutSeconds"]) == ("a10g-small", seconds)
    assert asked["dockerImage"] == "registry.example/attnlab:1"
    assert asked["volumes"] == [{"type": "bucket", "source": "lab/runs", "mountPath": str(tmp_path)}]
    assert "attempts" not in asked  # who watches decides by the status of a run
    written = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert (written, KEY in said) == ([], False)
    before = len(hub.jobs)
    assert ablate(*words)[0] == 0  # it is over: nothing is started
    assert len(hub.jobs) == before


def test_with_a_store_nothing_is_mounted_and_results_come_from_there(hub, ablate, tmp_path):
    store = f"file://{tmp_path}/store"

    def finishes_in_the_store(job: Job) -> tuple[str, str | None]:
        address = job.asked["command"][-2]
        cell = find_cell(tmp_path / "runs" / "mine", job.run)
        config = run_from_dict(cell.config)
        made = tmp_path / "elsewhere" / job.run
        stored_ablation.finish(made, config, identity.describe(config))
        StoredRun(ObjectStore(address.rpartition("/")[0]), job.run).end(made)
        return "COMPLETED", None

    hub.work = finishes_in_the_store
    status, said = ablate(f"store={store}", "hf_jobs.bucket=null", "hf_jobs.mount=/nowhere")
    assert status == 0, said
    for job in hub.jobs:
        assert job.asked["command"][-2:] == [f"{store}/mine", job.run]
        assert not job.asked.get("volumes")
    assert {outcome_of(cell).status for cell in open_ablation(tmp_path / "runs" / "mine").cells} == {
        "finished"
    }


def test_a_job_asks_its_run_to_stop_before_the_limit_and_has_its_status(tmp_path, watched):
    program = tmp_path / "attnlab"
    program.write_text("#!/bin/sh\ntrap 'exit 75' TERM\nwhile :; do sleep 0.05; done\n")
    program.chmod(0o755)
    settings = HfJobsConfig(image="i", bucket="lab/runs", mount=str(tmp_path), minutes=1, grace_seconds=59)
    [command, _] = hf_jobs.HfJobsExecutor(settings, watched.folder, print).prepare(watched.cells)
    words = shlex.split(command)
    words = words[words.index("timeout") :]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert subprocess.run(words, env=environment, timeout=60).returncode == 75


def test_a_dry_run_prints_the_jobs_and_their_price(hub, ablate):
    status, said = ablate("--dry-run", "hf_jobs.minutes=90", "hf_jobs.namespace=lab")
    assert status == 0
    assert "2 jobs of registry.example/attnlab:1 on a10g-small, bucket lab/runs at " in said
    assert "at most 90 minutes each, paid by lab" in said
    assert "price: $1.00 an hour, by the Hub's list of today; at most $3.01 until each" in said
    assert not hub.jobs
    hub.faults = [Fault("hardware", status=503)]
    status, said = ablate("--dry-run")
    assert (status, "price: not known, as the Hub was unavailable" in said) == (0, True)


def test_the_price_of_what_is_left_follows_from_the_runs_that_have_ended(hub, tmp_path):
    folder = stored_ablation.write(tmp_path / "runs", finished=[1])
    left = [cell for cell in open_ablation(folder).cells if cell.seed != 1]
    settings = HfJobsConfig(image="i", bucket="lab/runs", mount=str(tmp_path), flavor="a10g-small")
    executor = hf_jobs.HfJobsExecutor(settings, folder, print)
    [_, price] = executor.price(left, dict.fromkeys(left[:3], 1200.0))
    assert "; about $1.00 for the 3 of known time; at most $16.03 until" in price


# ---- by its status, a run is started again


@pytest.mark.parametrize("ending", ["75", "limit"])
def test_a_run_that_was_stopped_or_reached_the_limit_is_started_again(hub, watched, ending):
    hub.work = after(1, stops if ending == "75" else lambda job: ("ERROR", "Job timeout"))
    assert watched.run() == FINISHED
    assert [len(hub.of(cell.folder.name)) for cell in watched.cells] == [2, 2]


def test_a_run_that_fails_is_reported_and_only_the_next_command_tries_it_again(hub, watched):
    hub.work = after(1, fails("data: there is no such file"))
    assert watched.run() == dict.fromkeys(FINISHED, ("failed", "data: there is no such file"))
    assert len(hub.jobs) == 2
    assert watched.run() == FINISHED
    assert len(hub.jobs) == 4


def test_a_job_that_never_brings_a_checkpoint_is_given_up_with_what_it_printed(hub, watched):
    def cannot_start(job):
        job.log = ["sh: attnlab: not found", f"the key is {KEY}"]
        return "ERROR", "Job failed with exit code: 127"

    hub.work = cannot_start
    status, reason = watched.run(secrets=["WANDB_API_KEY"])["stock"]
    assert status == "failed"
    assert f"started {retries.MOST_FRUITLESS} times in a row without a new checkpoint" in reason
    job = hub.of(watched.cells[0].folder.name)[-1]
    assert f"the Hub says ERROR, Job failed with exit code: 127 of job {job.id}, see " in reason
    log = watched.folder / "queue" / f"{job.id}.txt"
    assert log.read_text() == "sh: attnlab: not found\nthe key is ***\n"
    assert len(hub.jobs) == 2 * retries.MOST_FRUITLESS


def test_a_job_that_was_cancelled_at_the_hub_is_not_started_again(hub, watched):
    hub.work = lambda job: ("CANCELED", None)
    ends = watched.run()
    assert {status for status, _ in ends.values()} == {"interrupted"}
    assert "was cancelled" in ends["stock"][1]
    assert len(hub.jobs) == 2


def test_a_complete_job_without_a_result_here_names_the_mount(hub, watched):
    hub.work = lambda job: ("COMPLETED", None)
    status, reason = watched.run()["gate"]
    assert (status, f"is lab/runs mounted at {watched.mount}?" in reason) == ("failed", True)
    assert len(hub.jobs) == 2


# ---- the Hub


def test_a_full_queue_is_said_once_and_its_runs_follow(hub, tmp_path):
    watched, hub.at_once = Watched(tmp_path, arms=["stock", "gate", "temperature", "alibi"]), 1

    def slowly(job):
        time.sleep(0.3)
        return finishes(job)

    hub.work = slowly
    assert {status for status, _ in watched.run().values()} == {"finished"}
    assert len(hub.jobs) == 4
    assert hub.count("run_job") > 4
    assert sum("takes no more jobs now (it answers 429)" in line for line in watched.said) == 1


def test_a_job_that_the_hub_has_lost_is_started_again(hub, watched):
    def lose(job):
        hub.lose(job)
        return "ERROR", None

    hub.work = after(1, lose)
    assert watched.run() == FINISHED
    assert len(hub.jobs) == 2  # of which the Hub knows; two more were lost


def test_a_hub_that_is_gone_midway_is_asked_again_and_starts_no_run_twice(hub, watched):
    hub.faults = [
        Fault("run_job", drop="reply", times=1),
        Fault("list_jobs", status=503, times=3, after=1),
        Fault("list_jobs", drop="reply", times=1, after=2),
    ]
    assert watched.run() == FINISHED
    assert [fault.times for fault in hub.faults] == [0, 0, 0]
    assert len(hub.jobs) == 2
    assert any("the Hub does not answer" in line and "no run is lost" in line for line in watched.said)


def test_who_stops_watching_leaves_the_jobs_and_who_comes_back_starts_none_twice(hub, watched):
    release, stop = threading.Event(), StopRequest()

    def waits(job):
        if len(hub.jobs) == 2:
            stop.signal_name = "SIGINT"
        release.wait(30)
        return finishes(job)

    hub.work = waits
    assert watched.run(stop) == {}
    assert [job.stage for job in hub.jobs] == ["RUNNING", "RUNNING"]
    release.set()
    assert watched.run() == FINISHED
    assert len(hub.jobs) == 2


def test_of_two_that_find_a_run_without_a_job_at_one_moment_only_one_starts_it(hub, watched):
    release = threading.Event()

    def waits(job):
        release.wait(30)
        return finishes(job)

    hub.work, name = waits, watched.cells[0].folder.name
    settings = HfJobsConfig(image="i", bucket="lab/runs", mount=str(watched.mount))
    for _ in range(2):
        executor = hf_jobs.HfJobsExecutor(settings, watched.folder, watched.say)
        executor.hub = executor._queue()
        assert executor.hub.jobs([name], StopRequest())["jobs"].keys() == {name}
    release.set()
    assert len(hub.jobs) == 1


def test_a_run_that_another_command_works_on_gets_no_job_until_it_is_free(hub, watched):
    stop = StopRequest()

    def say(sentence):
        watched.said.append(sentence)
        if sentence.startswith("another command works on toy / stock / seed 1 (process "):
            stop.signal_name = "SIGTERM"

    watched.say = say
    with held_elsewhere(watched.cells[0].folder):
        assert watched.run(stop) in ({}, {"gate": ("finished", "")})
    assert not hub.of(watched.cells[0].folder.name)
    assert watched.run() == FINISHED


def test_cancelling_withdraws_the_jobs_that_wait(hub, watched):
    def waits(job):
        job.stage = "SCHEDULING"
        cancellation.cancel(watched.folder)
        return "ERROR", None

    hub.work = waits
    watched.run()
    assert {job.stage for job in hub.jobs} == {"CANCELED"}
    assert watched.said[-1] == "2 waiting jobs cancelled; running ones save a checkpoint and stop"
    cancellation.revoke(watched.folder)
    hub.work = finishes
    assert watched.run() == FINISHED


REFUSED = [
    (Fault("whoami", status=401), "the Hub does not accept this token (401); log in"),
    (Fault("run_job", status=401), "the Hub does not accept this token (401)"),
    (Fault("list_jobs", status=401), "the Hub does not accept this token (401)"),
    (Fault("run_job", status=402), "ada has no credit for jobs (402)"),
    (Fault("run_job", status=403), "this token may not start jobs for ada (403): made up; correct it, and "),
    (Fault("run_job", status=404), "there is no ada on the Hub, or this token may not start jobs there"),
    (Fault("run_job", status=400), "the Hub does not take the job (400): made up"),
    (Fault("run_job", status=402, after=1), "ada has no credit for jobs (402)"),
    (Fault("bucket", status=404), "there is no such bucket on the Hub"),
    (Fault("whoami", status=503), "the Hub was unavailable for"),
    (Fault("hardware", drop="reply"), "the Hub was unavailable for"),
]


@pytest.mark.parametrize(
    ("fault", "says"),
    REFUSED,
    ids=[f"{fault.endpoint}-{fault.status}-after-{fault.after}" for fault, _ in REFUSED],
)
def test_what_the_hub_refuses_is_one_sentence_and_the_same_command_goes_on(hub, watched, fault, says):
    hub.faults = [fault]
    with pytest.raises(UserError) as refused:
        watched.run()
    assert says in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    hub.faults = []
    assert watched.run() == FINISHED
    assert len(hub.jobs) == 2


NO_FLAVOR = "hf_jobs.flavor: there is no such flavor (got a11g); one of cpu-basic ($0.01 an hour), a10g"
SETTINGS = [
    ("hf_jobs.flavor=a11g", NO_FLAVOR),
    ("hf_jobs.namespace=other", "hf_jobs.namespace: ada is not a member of it (got other); one of ada, lab."),
    ("hf_jobs.bucket=lab/none", "hf_jobs.bucket: there is no such bucket on the Hub, or this token may not"),
    ("hf_jobs.secrets=[NOT_SET]", "hf_jobs.secrets: NOT_SET is not set in this shell; export NOT_SET."),
    ("hf_jobs.env={A: " + WRITER + "}", "holds what looks like a token or a key, so nothing was sent."),
    (
        "hf_jobs.minutes=2",
        "hf_jobs.grace_seconds: leaves no time before the limit of a job (got 120 of 120 s",
    ),
    ("hf_jobs.secrets=[A=b]", "hf_jobs.secrets"),
]


@pytest.mark.parametrize(("setting", "says"), SETTINGS, ids=[setting for setting, _ in SETTINGS])
def test_a_setting_that_cannot_be_is_one_sentence_and_nothing_is_started(hub, ablate, setting, says):
    status, said = ablate(setting)
    assert (status, says in said) == (2, True), said
    assert not hub.jobs
    assert WRITER not in said


def test_a_flavor_of_the_hub_that_the_client_does_not_know_is_used(hub, watched):
    assert watched.run(flavor="b300x2") == FINISHED


def test_without_a_hub_or_a_token_it_says_so_and_the_same_command_goes_on(hub, ablate, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        status, said = ablate()
    last = said.splitlines()[-1]
    assert (status, "(got http://127.0.0.1:9); check the network and HF_ENDPOINT" in last) == (2, True), said
    with monkeypatch.context() as patch:
        patch.delenv("HF_TOKEN")
        status, said = ablate()
    assert (status, "there is no token for the Hub; log in with hf auth login" in said) == (2, True), said
    monkeypatch.setenv("HF_TOKEN", READER)  # may read, but not start
    status, said = ablate("hf_jobs.namespace=lab")
    assert (status, "this token may not start jobs for lab (403)" in said) == (2, True), said
    monkeypatch.setenv("HF_TOKEN", WRITER)
    status, said = ablate()
    assert status == 0, said
