"""One worker at a time on a run at a storage URL, as far as a store without compare-and-swap allows."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from pipelines.storage import lease, object_store
from pipelines.storage.lock import Busy
from pipelines.storage.object_store import ObjectStore
from tests import faulty_store
from tests.faulty_store import Faulty

PLACE = "cells/abc"
NAME = f"{PLACE}/{lease.LEASE}"


@pytest.fixture
def store(monkeypatch):
    for name, seconds in (("RENEWAL_SECONDS", 0.05), ("SETTLE_SECONDS", 0.0), ("POLL_SECONDS", 0.01)):
        monkeypatch.setattr(lease, name, seconds)
    monkeypatch.setattr(object_store, "WAITS", (0.0,))
    faulty_store.start_anew()
    yield ObjectStore("faulty://bucket")
    faulty_store.start_anew()


def hold(store, on_loss=lambda: None, look=lambda: None):
    return lease.held(store, PLACE, on_loss, look)


def stored(store) -> lease.Lease:
    return lease.Lease(**json.loads(store.read(NAME)))


def of_another_machine(store, **changes) -> None:
    with hold(store):
        other = replace(stored(store), holder="other", machine="another", host="node7", **changes)
    store.write(NAME, json.dumps(asdict(other)).encode())


def test_a_second_worker_leaves_with_the_name_of_the_first_and_may_come_later(store):
    with hold(store):
        assert lease.is_held(store, PLACE)
        with (
            pytest.raises(
                Busy, match=r"faulty://bucket/cells/abc/lease.json: process \d+ on \S+ works on this run"
            ),
            hold(store),
        ):
            pass
    assert not lease.is_held(store, PLACE)
    with hold(store):
        pass


def test_a_lease_that_is_renewed_elsewhere_is_respected_whatever_the_clock_says(store):
    of_another_machine(store, time=time.time() - 10_000)
    renewals = iter(range(10**9))

    def renew(operation, path):
        if operation == "read" and next(renewals) == 3:
            other = lease.Lease(**json.loads(Faulty.store["/bucket/" + NAME].getvalue()))
            changed = replace(other, time=other.time + 20)
            Faulty.fault = staticmethod(lambda operation, path: None)
            store.write(NAME, json.dumps(asdict(changed)).encode())

    Faulty.fault = staticmethod(renew)
    with pytest.raises(Busy), hold(store):
        pass


def test_a_lease_that_stands_still_is_taken_over(store):
    of_another_machine(store, time=time.time() - 10_000)
    with hold(store) as mine:
        assert stored(store).holder == mine


def test_a_lease_that_was_cut_is_taken_over(store):
    store.write(NAME, b'{"holder": "x')
    with hold(store) as mine:
        assert stored(store).holder == mine


def test_the_lease_of_a_process_of_this_machine_that_was_killed_is_taken_over_at_once(store, monkeypatch):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with hold(store):
        dead = replace(stored(store), holder="dead", pid=ended.pid, started="1")
    store.write(NAME, json.dumps(asdict(dead)).encode())
    monkeypatch.setattr(lease, "_watch", lambda *_: pytest.fail("it is not waited for"))
    with hold(store):
        pass


def test_of_two_that_start_at_once_the_one_whose_lease_was_overwritten_leaves(store, monkeypatch):
    other = lease.Lease("other", "node7", "another", 1, "1", time.time())
    monkeypatch.setattr(lease.time, "sleep", lambda _: store.write(NAME, json.dumps(asdict(other)).encode()))
    with pytest.raises(Busy, match="has just begun"), hold(store):
        pass
    assert stored(store).holder == "other"


def test_a_worker_whose_lease_was_taken_is_told_and_leaves_the_lease_of_the_other(store):
    lost = threading.Event()
    with hold(store, on_loss=lost.set):
        taken = replace(stored(store), holder="other")
        store.write(NAME, json.dumps(asdict(taken)).encode())
        assert lost.wait(10)
    assert stored(store).holder == "other"


def test_a_store_that_is_away_for_a_while_ends_no_lease(store):
    looked, away = threading.Event(), [3]

    def fault(operation, path):
        away[0] -= 1
        return OSError("away") if away[0] >= 0 and operation == "read" else None

    with hold(store, look=looked.set):
        Faulty.fault = staticmethod(fault)
        assert looked.wait(10)
