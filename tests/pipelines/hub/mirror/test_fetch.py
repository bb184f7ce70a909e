"""`attnlab fetch` fills a mirror of the Hub, checks what it fetches, and goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

from pipelines.hub import mirror
from pipelines.hub.mirror import UNFINISHED
from tests.pipelines.hub.conftest import Attnlab
from tests.pipelines.hub.connection import Fault
from tests.pipelines.hub.double import Hub, Repo
from tests.pipelines.hub.mirror.conftest import DATA, MODEL, data_files, head, held, parquet, reviews


def test_fetch_takes_the_configuration_that_is_named_and_one_form_of_the_weights(
    stocked: Hub, place: Path, file, attnlab: Attnlab
) -> None:
    status, output = attnlab("fetch", file())
    assert status == 0, output
    assert held(place / "datasets" / DATA) == {"README.md", "short/train-0.parquet", "short/test-0.parquet"}
    got = held(place / "models" / MODEL)
    assert got == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert head(stocked, f"datasets/{DATA}") in output
    assert mirror.find("models", MODEL).commit == head(stocked, f"models/{MODEL}")


def test_what_is_there_is_not_fetched_again(stocked: Hub, fetched: Path, file, attnlab: Attnlab) -> None:
    before = {path: path.stat().st_mtime_ns for path in fetched.rglob("*.parquet")}
    stocked.requests.clear()
    status, output = attnlab("fetch", file())
    assert (status, output.count("all there already")) == (0, 2), output
    assert {path: path.stat().st_mtime_ns for path in fetched.rglob("*.parquet")} == before
    assert stocked.count("resolve") <= 1  # the card, which `datasets` reads


def test_a_second_configuration_joins_the_first(stocked: Hub, fetched: Path, file, attnlab: Attnlab) -> None:
    status, output = attnlab("fetch", file("other", config="long"))
    assert status == 0, output
    got = {f"{part}/{split}-0.parquet" for part in ("short", "long") for split in ("train", "test")}
    assert held(fetched / "datasets" / DATA) == {"README.md", *got}


def test_a_fetch_that_stops_is_refused_by_readers_and_goes_on(
    stocked: Hub, place: Path, file, attnlab: Attnlab, monkeypatch
) -> None:
    monkeypatch.setenv("ATTNLAB_HUB_PATIENCE", "1")
    stocked.faults = [Fault("resolve", status=503, after=2)]
    assert attnlab("fetch", file())[0] == 1
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    status, output = attnlab("train", file(), "--out", place.parent / "run")
    assert (status, "was not fetched to its end" in output, "attnlab fetch" in output) == (2, True, True)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    stocked.faults = []
    status, output = attnlab("fetch", file())
    assert status == 0, output
    assert not list(place.rglob(UNFINISHED.name))


def test_a_new_commit_replaces_the_old_one(stocked: Hub, fetched: Path, file, attnlab: Attnlab) -> None:
    files = data_files() | {"short/train-0.parquet": parquet(reviews(30))}
    files["short/test-00.parquet"] = files.pop("short/test-0.parquet")
    stocked.repos[f"datasets/{DATA}"].commit("main", "more", files)
    status, output = attnlab("fetch", file())
    assert status == 0, output
    assert held(fetched / "datasets" / DATA) == {
        "README.md",
        "short/train-0.parquet",
        "short/test-00.parquet",
    }
    assert mirror.find("datasets", DATA).commit == head(stocked, f"datasets/{DATA}")


def test_bytes_that_change_on_the_way_are_fetched_again_and_never_kept(
    stocked: Hub, place: Path, file, attnlab: Attnlab
) -> None:
    for good in (0, 1):  # the card too, and all but the card
        stocked.faults = [Fault("resolve", corrupt=True, after=good)]
        status, output = attnlab("fetch", file())
        assert (status, "sent other bytes" in output) == (1, True), output
    stocked.faults = []
    assert attnlab("fetch", file())[0] == 0
    assert mirror.find("datasets", DATA).commit


def test_fetch_refuses_what_would_leave_the_mirror(
    stocked: Hub, place: Path, file, attnlab: Attnlab, tmp_path
) -> None:
    for name in ("../../lab/x", "lab/../x", "/lab/reviews-of-old", "lab/a/b"):
        status, output = attnlab("fetch", file(name=name))
        assert (status, "nor a repository name of the Hub" in output) == (2, True), output
    outside = tmp_path / "outside"
    outside.mkdir()
    (place / "datasets").mkdir(parents=True)
    (place / "datasets" / "lab").symlink_to(outside)
    status, output = attnlab("fetch", file())
    assert (status, "is a link out of the mirror" in output) == (2, True), output
    (place / "datasets" / "lab").unlink()
    repo = stocked.repos[f"datasets/{DATA}"]
    repo.commit("main", "theirs", data_files() | {"../../../planted.txt": b"x"})
    status, output = attnlab("fetch", file())
    assert (status, "names a file outside of its own folder" in output) == (2, True), output
    assert not list(tmp_path.rglob("planted.txt"))


def test_fetch_says_what_it_lacks(stocked: Hub, place: Path, file, attnlab: Attnlab, monkeypatch) -> None:
    script = data_files() | {"scripted.py": b"import datasets\n"}
    stocked.repos["datasets/lab/scripted"] = Repo(private=False)
    stocked.repos["datasets/lab/scripted"].commit("main", "old", script)
    status, output = attnlab("fetch", file(name="lab/scripted"))
    assert (status, "set data.revision: refs/convert/parquet" in output) == (2, True), output
    status, output = attnlab("fetch", file(name="lab/nothing"))
    assert (status, "there is no such repository or revision on the Hub" in output) == (2, True), output
    stocked.repos[f"models/{MODEL}"].commit("main", "pickles", {"config.json": b"{}", "model.bin": b""})
    status, output = attnlab("fetch", file())
    assert (status, "has no weights as model.safetensors" in output) == (2, True), output
    (place / "datasets" / "lab" / "mine").mkdir(parents=True)
    (place / "datasets" / "lab" / "mine" / "a.csv").write_text("text,label\n")
    stocked.repos["datasets/lab/mine"] = Repo(private=False)
    stocked.repos["datasets/lab/mine"].commit("main", "x", data_files())
    status, output = attnlab("fetch", file(name="lab/mine"))
    assert (status, "which was not fetched from the Hub" in output) == (2, True), output
    path = file()
    path.write_text("task: ner\ndata: {generated: {name: ner, train: 9, validation: 3}}\n")
    status, output = attnlab("fetch", path)
    assert (status, "names no data set or model of the Hub" in output) == (2, True), output
    monkeypatch.delenv("ATTNLAB_MIRROR")
    status, output = attnlab("fetch", file())
    assert (status, "set ATTNLAB_MIRROR" in output) == (2, True), output


def test_a_card_that_names_files_of_this_machine_is_refused(
    stocked: Hub, place: Path, file, attnlab: Attnlab, tmp_path, monkeypatch
) -> None:
    (tmp_path / "secret.csv").write_text("text,label\nmine,a\nyours,b\n")
    for path in (str(tmp_path / "secret.csv"), "../../../../secret.csv"):
        card = f"---\nconfigs:\n- config_name: short\n  data_files: [{{split: train, path: '{path}'}}]\n---\n"
        folder = place / "datasets" / "lab" / "own"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "README.md").write_text(card)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        status, output = attnlab("train", file(name="lab/own"), "--out", tmp_path / "run")
        assert (status, "names a file outside of the data set" in output) == (2, True), output
