"""A pushed ablation of data that may not be published holds no row of it, and is checked without them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet
import pytest

from pipelines.cli.main import main
from tests.pipelines import stored_ablation

NAMES = ("Ásta", "Björn", "Dóra", "Einar", "Freyja")


def text_of(kind: str, number: int) -> str:
    return f"{kind} {number}: {NAMES[number % 5]} has the mumps, says Dr {NAMES[number % 3]}"


def with_texts(run: Path) -> set[str]:
    """Make the ids and clusters of a run's rows texts, as those of many data sets are; return all of them."""
    texts: set[str] = set()
    for split in ("validation", "test"):
        statistics = run / f"statistics.{split}.parquet"
        table = pyarrow.parquet.read_table(statistics)
        names = [
            [text_of(kind, one // size) for one in range(len(table))]
            for kind, size in (("row", 1), ("page", 4))
        ]
        for column, values in zip(("id", "cluster"), names):
            place = table.column_names.index(column)
            table = table.set_column(place, column, [values])
            texts.update(values)
        pyarrow.parquet.write_table(table, statistics)
        predictions = run / f"predictions.{split}.jsonl"
        lines = [json.loads(line) for line in predictions.read_text().splitlines()]
        named = [line | {"id": name} for line, name in zip(lines, names[0], strict=True)]
        predictions.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in named))
    stored_ablation.list_again(run)
    return texts


def everything_in(folder: Path) -> bytes:
    """Return all bytes below a folder, those of compressed tables as text, and all names of files."""
    found = []
    for path in (path for path in sorted(folder.rglob("*")) if path.is_file()):
        found += [str(path).encode(), path.read_bytes()]
        if path.suffix == ".parquet":
            found.append(str(pyarrow.parquet.read_table(path).to_pydict()).encode())
    return b"\n".join(found)


@pytest.fixture
def pushed(tmp_path, capsys) -> tuple[Path, set[str]]:
    """The folder that a push of an ablation sends, somewhere else; and the texts of its rows."""
    folder = stored_ablation.write(tmp_path / "runs", seeds=(1, 2, 3, 4), finished=(1, 2, 3))
    texts: set[str] = set()
    for run in sorted((tmp_path / "runs" / "cells").iterdir()):
        shutil.rmtree(run / "model")  # bytes that no model loads
        texts |= with_texts(run)
    failed = stored_ablation.run_folder(folder, "gate", 4)
    failed.mkdir()
    (failed / "failure.txt").write_text(f"a.csv, row 3: no label (got {text_of('row', 3)!r}); write one.\n")
    assert main(["report", str(folder)]) == 0
    assert main(["push", str(folder), "lab/toy", "--dry-run"]) == 0, capsys.readouterr().err
    (folder / "hub" / "lab--toy@main").rename(tmp_path / "snapshot")
    assert text_of("row", 3).encode() in everything_in(tmp_path / "runs" / "cells")
    shutil.rmtree(tmp_path / "runs")
    return tmp_path / "snapshot", texts


def test_no_byte_that_is_sent_is_of_a_row(pushed):
    folder, texts = pushed
    sent = everything_in(folder)
    assert len(texts) > 60
    assert [text for text in texts if text.encode() in sent or json.dumps(text)[1:-1].encode() in sent] == []
    assert [name for name in NAMES if name.encode() in sent] == []


def without_looks(record):
    """Return results without the looks at them, which whoever reports them notes in a ledger of their own."""
    results = json.loads((record / "results.json").read_text())
    return {name: value for name, value in results.items() if name != "ledger"}


def test_what_was_sent_is_verified_and_reported_without_the_rows(pushed, capsys):
    folder, _ = pushed
    record = folder / "ablation"
    assert main(["verify", str(record)]) == 0, capsys.readouterr().out
    before = without_looks(record)
    assert main(["report", str(record)]) == 0
    assert without_looks(record) == before
    assert main(["verify", str(record)]) == 0
    sent, said = everything_in(folder), "".join(capsys.readouterr())
    assert [name for name in NAMES if name.encode() in sent or name in said] == []
