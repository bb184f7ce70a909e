"""A time stamp by RFC 3161 dates a registration: `openssl ts` is the authority, and a second opinion."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from pipelines.ablation import anchor, timestamp
from pipelines.ablation.preregistration import read_registration, seal
from pipelines.cli.main import main
from pipelines.errors import RunFailed, UserError
from tests.pipelines import stored_ablation as made
from tests.pipelines.ablation.test_anchor import anchored, drop_an_arm, verified

CONFIG = """
[tsa]
default_tsa = one
[one]
serial = serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
ess_cert_id_chain = no
ess_cert_id_alg = sha256
[stamping]
extendedKeyUsage = critical,timeStamping
"""


class Authority:
    """A folder with the keys of an authority, and `openssl ts` to sign with them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.answer = folder, None  # bytes to answer instead of a time stamp
        folder.mkdir()
        (folder / "ts.cnf").write_text(CONFIG)
        (folder / "serial").write_text("01")
        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        self.openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA")
        self.openssl("req", *new, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=Test TSA")
        by_ca = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        of = ["-extfile", "ts.cnf", "-extensions", "stamping"]
        self.openssl("x509", "-req", "-in", "tsa.csr", *by_ca, *of, "-out", "tsa.pem")

    def openssl(self, *arguments: str) -> bytes:
        done = subprocess.run(["openssl", *arguments], capture_output=True, check=True, cwd=self.folder)
        return done.stdout

    def stamp(self, query: bytes) -> bytes:
        if self.answer is not None:
            return self.answer
        (self.folder / "query").write_bytes(query)
        key = ["-signer", "tsa.pem", "-inkey", "tsa.key", "-config", "ts.cnf"]
        return self.openssl("ts", "-reply", "-queryfile", "query", *key)


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    pytest.importorskip("rfc3161_client", reason=timestamp.INSTALL)
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return Authority(tmp_path_factory.mktemp("authority") / "tsa")


@pytest.fixture
def url(authority) -> Iterator[str]:
    """The address of the authority, on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == timestamp.QUERY
            body = authority.stamp(query)
            self.send_response(200 if body else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/tsr"
    authority.answer = None
    server.shutdown()
    server.server_close()


@pytest.fixture
def known(authority, monkeypatch) -> None:
    """The authority is one that this machine knows."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.folder / "ca.pem"))


def test_a_stamp_verifies_here_and_by_openssl(tmp_path, authority, url, known, capsys):
    folder = anchored(tmp_path, url)
    record = json.loads((folder / "anchor.json").read_text())
    assert record["kind"] == url
    assert record["time"].endswith("+00:00")
    status, out = verified(folder, capsys)
    assert (status, "vouches" in out) == (0, False), out
    (tmp_path / "digest").write_text(seal(read_registration(folder)))
    shutil.copy(folder / "anchor.tsr", tmp_path / "reply")
    own = ["-in", str(tmp_path / "reply"), "-data", str(tmp_path / "digest")]
    authority.openssl("ts", "-verify", *own, "-CAfile", "ca.pem")
    assert f"anchored at {url} time stamp {record['commit'][:16]}" in (folder / "report.md").read_text()


def test_a_dropped_arm_is_found_although_every_digest_and_every_run_was_forged(tmp_path, url, known, capsys):
    folder = anchored(tmp_path, url)
    drop_an_arm(folder, forge_runs=True)
    status, out = verified(folder, capsys)
    assert status == 1
    assert "registration.json: is not the one that was anchored: the time stamp of " in out
    assert "is of another digest" in out


def test_an_authority_that_this_machine_does_not_know_is_said(tmp_path, url, capsys):
    folder = anchored(tmp_path, url)
    status, out = verified(folder, capsys)
    assert status == 0
    assert "no authority that this machine knows vouches for the time stamp (issued by CN=Test CA" in out


def test_a_stamp_that_was_changed_lost_or_redated_is_found(tmp_path, url, known, capsys):
    folder = anchored(tmp_path, url)
    stored, record = (folder / "anchor.tsr").read_bytes(), json.loads((folder / "anchor.json").read_text())
    for changed, said in (
        (b"x", "is no time stamp"),
        (stored[:-9] + b"\0" + stored[-8:], "is not signed as"),
    ):
        (folder / "anchor.tsr").write_bytes(changed)
        (folder / "anchor.json").write_text(json.dumps(record))
        assert "has another anchor.tsr than anchor.json names" in verified(folder, capsys)[1]
        own = record | {"commit": timestamp.hashlib.sha256(changed).hexdigest()}
        (folder / "anchor.json").write_text(json.dumps(own))
        status, out = verified(folder, capsys)
        assert (status, said in out) == (1, True), out
    (folder / "anchor.tsr").write_bytes(stored)
    (folder / "anchor.json").write_text(json.dumps(record | {"time": "2020-01-01T00:00:00+00:00"}))
    assert "but anchor.json says 2020-01-01T00:00:00+00:00" in verified(folder, capsys)[1]
    (folder / "anchor.tsr").unlink()
    assert "anchor.tsr is missing" in verified(folder, capsys)[1]


@pytest.mark.parametrize("answer", [b"<html>no</html>", b""])
def test_what_is_no_stamp_ends_before_training(tmp_path, authority, url, answer):
    authority.answer = answer
    said = "no time stamp by RFC 3161" if answer else "it answers 503"
    with pytest.raises(RunFailed, match=f"{said}.*nothing was trained"):
        anchored(tmp_path, url)
    assert not (tmp_path / "toy" / "anchor.json").exists()


def test_the_stamp_of_another_request_is_refused(tmp_path, authority, url):
    (authority.folder / "other").write_text("other")
    query = authority.openssl("ts", "-query", "-data", "other", "-sha256", "-cert")
    authority.answer = authority.stamp(query)
    with pytest.raises(RunFailed, match="answers another request; nothing was trained"):
        anchored(tmp_path, url)


def test_a_dead_url_ends_in_a_sentence_before_training(tmp_path, authority, capsys):
    values = {"cells": {"toy": made.RUN}, "arms": {"stock": [], "gate": ["gate"]}, "seeds": [1]}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values | {"anchor": "http://127.0.0.1:9/tsr"}))
    assert main(["ablate", str(tmp_path / "a.yaml"), "--out", str(tmp_path / "runs" / "a")]) == 1
    err = capsys.readouterr().err
    assert "http://127.0.0.1:9/tsr: the time stamp cannot be had (" in err
    assert "nothing was trained" in err
    assert not (tmp_path / "runs" / "cells").exists()


def test_without_the_library_it_is_refused_before_anything_is_written_and_said_afterwards(
    tmp_path, url, known, monkeypatch, capsys
):
    folder = anchored(tmp_path, url)
    monkeypatch.setattr(timestamp, "is_installed", lambda: False)
    with pytest.raises(UserError, match=r"rfc3161-client, which is not installed; pip install"):
        anchor.refuse_late(made.config(anchor=url), tmp_path / "runs" / "toy")
    status, out = verified(folder, capsys)
    assert (status, "anchor.tsr is not checked: rfc3161-client is not installed" in out) == (0, True)
