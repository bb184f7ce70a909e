"""A download that fails on the way is repeated, and what is read is what was pushed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.hub import fetch
from tests.pipelines.hub.conftest import REPO, Attnlab
from tests.pipelines.hub.connection import Fault
from tests.pipelines.hub.double import Hub, Repo

ADDRESS = f"hub:{REPO}"


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault(step, status=503, times=1) for step in ("info", "tree", "head", "resolve")),
        Fault("resolve", status=429, headers={"Retry-After": "3600"}, times=1),
        Fault("resolve", drop="reply", times=1),
        *(Fault(step, stall=True, times=1) for step in ("info", "tree", "head", "resolve")),
        Fault("resolve", corrupt=True, times=3),  # attnlab.json among them
    ],
    ids=[
        *("info", "tree", "head", "resolve", "asked to wait", "broken off"),
        *("info stalls", "tree stalls", "head stalls", "resolve stalls", "corrupted"),
    ],
)
def test_what_fails_for_a_moment_is_asked_again(
    hub: Hub, recorded: Path, attnlab: Attnlab, fault: Fault
) -> None:
    hub.faults = [fault]
    status, output = attnlab("verify", ADDRESS)
    assert status == 0, output
    assert fault.times == 0


def test_bytes_that_change_every_time_are_not_read(hub: Hub, recorded: Path, attnlab: Attnlab) -> None:
    hub.faults = [Fault("resolve", corrupt=True)]
    status, output = attnlab("verify", ADDRESS)
    assert status == 1, output
    assert "every file is as its run wrote it" not in output


def test_a_hub_that_stays_unavailable_is_given_up(
    hub: Hub, recorded: Path, attnlab: Attnlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNLAB_HUB_PATIENCE", "1")
    hub.faults = [Fault("info", status=503)]
    status, output = attnlab("verify", ADDRESS)
    assert (status, "the Hub was unavailable for" in output, "while downloading" in output) == (
        1,
        True,
        True,
    ), output


def test_without_a_network_it_is_read_from_the_cache_or_reported_as_missing(
    hub: Hub, recorded: Path, attnlab: Attnlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert attnlab("verify", ADDRESS)[0] == 0
    before = len(hub.requests)
    fetch.KNOWN.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    status, output = attnlab("verify", ADDRESS)
    assert status == 0, output
    status, output = attnlab("verify", "hub:lab/other")
    assert status == 2, output
    assert len(hub.requests) == before


def test_what_attnlab_did_not_push_is_not_taken_for_a_record(hub: Hub, attnlab: Attnlab) -> None:
    repo = hub.repos["models/lab/other"] = Repo(private=False)
    repo.commit("main", "theirs", {"config.json": b"{}"})
    status, output = attnlab("verify", "hub:lab/other")
    assert (status, "was not pushed by attnlab" in output) == (2, True)
    for nowhere in ("hub:lab/nothing", "hub:lab/other@nowhere"):
        status, output = attnlab("verify", nowhere)
        assert (status, f"{nowhere}: there is no such repository or revision" in output) == (2, True), output


def test_what_a_later_version_pushed_in_another_form_is_refused(
    hub: Hub, recorded: Path, attnlab: Attnlab
) -> None:
    repo = hub.repos[f"models/{REPO}"]
    listed = json.loads(repo.refs["main"].files["attnlab.json"]) | {"schema_version": 2, "attnlab": "9.0"}
    repo.commit("main", "later", repo.refs["main"].files | {"attnlab.json": json.dumps(listed).encode()})
    status, output = attnlab("verify", ADDRESS)
    assert (status, "was pushed by attnlab 9.0, in a form that this version does not read" in output) == (
        2,
        True,
    )


def test_a_patience_that_is_not_a_number_is_refused(
    hub: Hub, recorded: Path, attnlab: Attnlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("soon", "-1", "inf"):
        monkeypatch.setenv("ATTNLAB_HUB_PATIENCE", text)
        status, output = attnlab("verify", ADDRESS)
        assert (status, f"ATTNLAB_HUB_PATIENCE: is not a number of seconds (got {text})" in output) == (
            2,
            True,
        ), output
