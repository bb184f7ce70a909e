"""A push that fails at any step loses nothing, reports why, and the same command completes it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.config.load import run_from_dict
from pipelines.hub.client import Patience, Unavailable, retried
from pipelines.runs import identity
from tests.pipelines import stored_ablation
from tests.pipelines.hub.conftest import REPO, Attnlab, fingerprint
from tests.pipelines.hub.connection import Fault
from tests.pipelines.hub.double import READER, Hub

STEPS = ("whoami", "info", "validate", "create", "tree", "preupload", "batch", "verify", "commit", "tag")
BUSY = b'{"error": "Cannot create repo: another conflicting operation is in progress"}'


def commits(hub: Hub) -> list[str]:
    """Return the titles of the commits that pushes made."""
    return [commit.title for commit in hub.repos[f"models/{REPO}"].commits[1:]]


def complete(hub: Hub, run: Path) -> bool:
    """Return whether the newest commit holds exactly the staged folder and has the only tag."""
    repo = hub.repos[f"models/{REPO}"]
    [staged] = [path for path in (run / "hub").iterdir() if path.is_dir()]
    sent = {
        path.relative_to(staged).as_posix(): path.read_bytes() for path in staged.rglob("*") if path.is_file()
    }
    there = {name: content for name, content in repo.refs["main"].files.items() if name != ".gitattributes"}
    return there == sent and list(repo.tags.values()) == [repo.refs["main"]]


def pushes_at_once_past(faults: list[Fault], hub: Hub, run: Path, attnlab: Attnlab) -> None:
    """Check that one command succeeds despite the faults, with everything in one commit."""
    hub.faults = faults
    status, output = attnlab("push", run, REPO)
    assert status == 0, output
    assert hub.faults[0].times == 0
    assert len(commits(hub)) == 1
    assert complete(hub, run)


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        (Fault("whoami", status=401), 2, "does not accept this token (401); log in with hf auth login"),
        (Fault("create", status=401), 2, "does not accept this token"),
        (Fault("create", status=403), 2, "this token may not write there (403)"),
        (Fault("preupload", status=403), 2, "this token may not write there (403)"),
        (Fault("preupload", status=404), 2, "no such repository or revision"),
        (Fault("commit", status=409), 1, "somebody else changed the repository meanwhile (409"),
        (Fault("commit", status=412), 1, "somebody else changed the repository meanwhile (412"),
        (Fault("put", status=403), 1, "while uploading: its storage answers 403"),
        (
            Fault("validate", status=400, body=b'{"errors": [{"message": "license"}]}'),
            2,
            "does not accept the card",
        ),
        (Fault("batch", status=500, body=b"<html>"), 1, "was unavailable for"),
    ],
    ids=lambda value: f"{value.endpoint}-{value.status}" if isinstance(value, Fault) else None,
)
def test_a_refusal_is_reported_at_once_and_the_same_command_completes_later(
    hub: Hub,
    run: Path,
    attnlab: Attnlab,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    status: int,
    says: str,
) -> None:
    monkeypatch.setenv("ATTNLAB_HUB_PATIENCE", "2")
    before = fingerprint(run)
    hub.faults = [fault]
    found, output = attnlab("push", run, REPO)
    assert (found, says in output) == (status, True), output
    assert f"attnlab push {run} {REPO}" in output
    if status == 2:
        assert hub.count(fault.endpoint) == 1  # a refusal is not asked for twice
    assert fingerprint(run) == before
    hub.faults = []
    assert attnlab("push", run, REPO)[0] == 0
    assert len(commits(hub)) == 1
    assert complete(hub, run)


@pytest.mark.parametrize("step", [*STEPS, "put", "complete"])
def test_a_server_that_fails_for_a_moment_at_any_step_is_asked_again(
    hub: Hub, run: Path, attnlab: Attnlab, step: str
) -> None:
    busy, broken = Fault(step, status=503, times=1), Fault(step, status=500, body=b"<html>", times=1)
    pushes_at_once_past([busy, broken], hub, run, attnlab)


@pytest.mark.parametrize("status", [400, 403])  # bytes that changed on the way; an address that is too old
def test_storage_that_refuses_is_given_the_bytes_again(
    hub: Hub, run: Path, attnlab: Attnlab, status: int
) -> None:
    pushes_at_once_past([Fault("put", status=status, times=1)], hub, run, attnlab)


@pytest.mark.parametrize("step", ["whoami", "preupload", "put", "commit"])
def test_a_server_that_asks_for_an_hour_is_asked_again_within_our_own_patience(
    hub: Hub, run: Path, attnlab: Attnlab, step: str
) -> None:
    hub.faults = [Fault(step, status=429, headers={"Retry-After": "3600"}, times=1)]
    begun = time.monotonic()
    status, output = attnlab("push", run, REPO)
    assert status == 0, output
    assert time.monotonic() - begun < 60
    assert len(commits(hub)) == 1


@pytest.mark.parametrize("step", ["whoami", "create", "preupload", "batch", "commit", "tag"])
def test_a_server_that_keeps_failing_is_given_up_and_the_same_command_completes_later(
    hub: Hub, run: Path, attnlab: Attnlab, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setenv("ATTNLAB_HUB_PATIENCE", "1")
    before = fingerprint(run)
    hub.faults = [Fault(step, status=503)]
    status, output = attnlab("push", run, REPO)
    assert status == 1
    assert "the Hub was unavailable for 1 s while" in output
    assert f"Nothing is lost. To resume: attnlab push {run} {REPO}" in output
    assert fingerprint(run) == before
    hub.faults = []
    assert attnlab("push", run, REPO)[0] == 0
    assert len(commits(hub)) == 1
    assert complete(hub, run)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("whoami", drop="reply", times=1),
        Fault("create", drop="reply", times=1),
        Fault("create", status=409, body=BUSY, times=2),
        Fault("put", drop="body", times=1),
        Fault("put", drop="reply", times=1),
        Fault("commit", drop="body", times=1),
        Fault("commit", drop="reply", times=1),
        Fault("tag", drop="reply", times=1),
        Fault("whoami", stall=True, times=1),
        Fault("commit", stall=True, times=1),
    ],
    ids=lambda fault: f"{fault.endpoint}-{fault.drop or ('stall' if fault.stall else fault.status)}",
)
def test_a_connection_that_breaks_or_hangs_leaves_one_commit(
    hub: Hub, run: Path, attnlab: Attnlab, fault: Fault
) -> None:
    before = fingerprint(run)
    hub.faults = [fault]
    status, output = attnlab("push", run, REPO)
    assert status == 0, output
    assert fingerprint(run) == before
    assert len(commits(hub)) == 1
    assert complete(hub, run)


@pytest.mark.parametrize("step", ["commit", "put"])
def test_a_server_that_never_answers_cannot_hang_the_command(
    hub: Hub, run: Path, attnlab: Attnlab, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setenv("ATTNLAB_HUB_PATIENCE", "1")
    hub.faults = [Fault(step, stall=True)]
    begun = time.monotonic()
    status, output = attnlab("push", run, REPO)
    assert (status, "To resume:" in output) == (1, True), output
    assert time.monotonic() - begun < 30
    hub.released.set()
    hub.faults = []
    assert attnlab("push", run, REPO)[0] == 0
    assert len(commits(hub)) == 1


def test_bytes_that_changed_on_the_way_are_sent_again_before_there_is_a_commit(
    hub: Hub, run: Path, attnlab: Attnlab
) -> None:
    pushes_at_once_past([Fault("put", corrupt=True, times=1)], hub, run, attnlab)


def test_bytes_that_change_every_time_are_reported_and_their_commit_is_never_tagged(
    hub: Hub, run: Path, attnlab: Attnlab
) -> None:
    before = fingerprint(run)
    hub.faults = [Fault("put", corrupt=True)]
    status, output = attnlab("push", run, REPO)
    assert (status, "is not what was sent: model.safetensors" in output) == (1, True), output
    assert not hub.repos[f"models/{REPO}"].tags  # nothing tells a reader to load it
    assert fingerprint(run) == before
    hub.faults = []
    assert attnlab("push", run, REPO)[0] == 0
    assert complete(hub, run)  # by a second commit: the Hub has no way to take back the first
    assert len(commits(hub)) == 2


def test_a_second_push_commits_nothing(hub: Hub, run: Path, attnlab: Attnlab) -> None:
    assert [attnlab("push", run, REPO)[0] for _ in range(2)] == [0, 0]
    assert len(commits(hub)) == 1
    assert hub.count("commit") == 1


def test_a_killed_push_is_completed_by_the_same_command(hub: Hub, run: Path, attnlab: Attnlab) -> None:
    before = fingerprint(run)
    hub.faults = [Fault("put", stall=True)]
    command = [sys.executable, "-m", "pipelines", "push", str(run), REPO]
    pushing = subprocess.Popen(command, cwd=Path(__file__).parents[3])
    while (
        not hub.faults[0].times < float("inf") and pushing.poll() is None and not hub.received.count(b"PUT ")
    ):
        time.sleep(0.05)
    [child] = children(pushing.pid)
    pushing.send_signal(signal.SIGKILL)
    pushing.wait()
    for _ in range(100):
        if not alive(child):
            break
        time.sleep(0.05)
    assert not alive(child)  # what talks to the Hub does not outlive its command
    hub.faults = []
    hub.released.set()
    assert fingerprint(run) == before
    assert attnlab("push", run, REPO)[0] == 0
    assert len(commits(hub)) == 1
    assert complete(hub, run)


def children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in listed.stdout.split()]


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_full_disk_leaves_the_run_as_it_was(
    hub: Hub, stock: None, attnlab: Attnlab, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    try:
        config = run_from_dict(stored_ablation.RUN)
        stored_ablation.finish(disk, config, identity.describe(config))
        before = fingerprint(disk)
        status, output = attnlab("push", disk, REPO)
        assert (status, "cannot hold the files to push (No space left on device)" in output) == (1, True), (
            output
        )
        assert f"Nothing is lost. To resume: attnlab push {disk} {REPO}" in output
        assert fingerprint(disk) == before
        assert not any(path.is_dir() for path in (disk / "hub").iterdir())
        assert not hub.repos
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        assert attnlab("push", disk, REPO)[0] == 0
        assert complete(hub, disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("step", ["auth_check", "head", "resolve", "branch"])
def test_what_a_second_push_asks_besides_is_asked_again_too(
    hub: Hub, stock: None, run: Path, attnlab: Attnlab, step: str
) -> None:
    assert attnlab("push", run, REPO)[0] == 0
    hub.faults = [Fault(step, status=503, times=1)]
    elsewhere = ["--revision", "arm"] if step == "branch" else []
    status, output = attnlab("push", run, REPO, *elsewhere)
    assert status == 0, output
    assert hub.faults[0].times == 0
    assert len(commits(hub)) == (2 if elsewhere else 1)


# ---- Xet, the default of the Hub's client for uploads
@pytest.fixture
def xet(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that serves as Xet storage."""
    monkeypatch.delenv("HF_HUB_DISABLE_XET")
    hub.xet = tmp_path / "xet"
    hub.xet.mkdir()
    return hub.xet


def test_weights_go_by_xet_in_one_commit(hub: Hub, run: Path, attnlab: Attnlab, xet: Path) -> None:
    status, output = attnlab("push", run, REPO)
    assert status == 0, output
    assert hub.count("xet_token") > 0 == hub.count("put")
    assert any(path.is_file() for path in xet.rglob("*"))
    assert len(commits(hub)) == 1
    [tagged] = hub.repos[f"models/{REPO}"].tags.values()
    assert tagged.files.keys() >= {"model.safetensors", "README.md"}
    assert attnlab("push", run, REPO)[0] == 0
    assert len(commits(hub)) == 1


def test_a_xet_that_hangs_is_ended_and_the_same_command_completes_later(
    hub: Hub, run: Path, attnlab: Attnlab, xet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNLAB_HUB_PATIENCE", "1")
    before = fingerprint(run)
    hub.faults = [Fault("xet_token", status=503)]  # asked again for 244 s by hf_xet, whatever we say
    begun = time.monotonic()
    status, output = attnlab("push", run, REPO)
    assert (status, "no answer within 8 s" in output, "To resume:" in output) == (1, True, True), output
    assert time.monotonic() - begun < 60
    assert fingerprint(run) == before
    hub.faults = []
    assert attnlab("push", run, REPO)[0] == 0
    assert len(commits(hub)) == 1


def test_a_token_that_may_only_read_is_refused_before_anything_is_made(
    hub: Hub, run: Path, attnlab: Attnlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", READER)
    status, output = attnlab("push", run, REPO)
    assert (status, "may only read" in output) == (2, True)
    assert not hub.repos


def test_without_a_token_nothing_is_asked_but_to_log_in(
    hub: Hub, run: Path, attnlab: Attnlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    status, output = attnlab("push", run, REPO)
    assert (status, "log in with hf auth login" in output) == (2, True)


def test_a_model_of_somebody_else_is_never_overwritten(hub: Hub, run: Path, attnlab: Attnlab) -> None:
    with contextlib.suppress(KeyError):
        assert attnlab("push", run, REPO)[0] == 0
    repo = hub.repos[f"models/{REPO}"]
    repo.commit("main", "theirs", {"model.safetensors": b"weights", "config.json": b"{}"})
    status, output = attnlab("push", run, REPO)
    assert (status, "which attnlab did not push" in output) == (2, True)
    assert repo.refs["main"].title == "theirs"


def test_a_public_repository_is_refused_where_a_private_one_is_wanted(
    hub: Hub, run: Path, attnlab: Attnlab
) -> None:
    assert attnlab("push", run, REPO)[0] == 0
    status, output = attnlab("push", run, REPO, "--private")
    assert (status, "is public, and --private was asked for" in output) == (2, True)
    assert os.environ["HF_TOKEN"] not in output


def test_an_upload_that_breaks_after_longer_than_our_patience_is_tried_again() -> None:
    """The time before the first failure does not count."""
    tried = []

    def call() -> str:
        tried.append(time.monotonic())
        if len(tried) == 1:
            time.sleep(0.2)
            raise Unavailable("it broke off")
        return "done"

    assert retried("uploading", call, Patience(0.1)) == "done"
