"""Every task on every family predicts rows that lack what only training needs, from every kind of input."""

from __future__ import annotations

import gzip
import io
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipelines.actions import evaluate as evaluate_action
from pipelines.actions import predict as predict_action
from pipelines.cli.main import main
from pipelines.config.data import DataConfig
from pipelines.config.load import RunConfig, load_ablation, run_from_dict
from pipelines.data.splits import load_splits
from pipelines.distributed.accelerator import build_accelerator
from pipelines.models.build import build_model
from pipelines.models.processor import load_processor
from pipelines.runs.load import LoadedRun
from pipelines.tasks.load import load_task
from tests.pipelines.tasks.writing import SIZES

MATRIX = load_ablation(str(Path(__file__).parents[3] / "configs" / "matrix.yaml"))
LABELLED = [f"classification-{architecture}" for architecture, _ in SIZES.values()]
LINE = "Old Ms. Miller, of the mill (near Ely), sold 12 lamps."
QUESTION = json.dumps({"question": "Who sold lamps?", "context": LINE})
WRITERS = ["summarization-t5", "translation-gpt2", "translation-bert2bert"]


def config(name: str) -> RunConfig:
    if name in MATRIX.cells:
        run = MATRIX.run_config(name, "stock", 1)
        small = run.data.generated.model_copy(update={"train": 40, "validation": 8, "test": 0})
        return run.model_copy(update={"data": run.data.model_copy(update={"generated": small})})
    family, (architecture, sizes) = SIZES_BY_NAME[name]
    return run_from_dict(
        {
            "task": {"name": "text_classification", "max_len": 64},
            "data": {"generated": {"name": "text_classification", "train": 40, "validation": 8}},
            "model": {"architecture": architecture, "family": family, "vocab_size": 400, "config": sizes},
        }
    )


SIZES_BY_NAME = {name: (family, sizes) for name, (family, sizes) in zip(LABELLED, SIZES.items(), strict=True)}


@cache
def finished(name: str) -> LoadedRun:
    """A run as it would be loaded: its task, and a model as it is before the first step."""
    run = config(name)
    if run.task.name in ("summarization", "translation", "generative_question_answering"):
        run = run.model_copy(update={"task": with_short_texts(run)})
    task = load_task(run)
    splits = load_splits(run.data, task)
    task.bind(load_processor(run, task, splits.train), run.model.family)
    model = build_model(run, task.head, task.processor, task.model_options()).eval()
    return LoadedRun(run, {}, task, model, build_accelerator(run))


def with_short_texts(run: RunConfig) -> Any:
    return run.task.model_copy(update={"options": {**run.task.options, "max_new_tokens": 3}})


@pytest.fixture(autouse=True)
def runs_are_there(monkeypatch):
    """The runs of these tests are in memory, in no folder."""
    monkeypatch.setattr("pipelines.runs.finished.require_finished", lambda folder: None)


@pytest.fixture
def predicted(monkeypatch, capsys):
    """A function that predicts a file or the bytes of standard input, and returns the printed rows."""

    def predict(name: str, given: Path | bytes, status: int = 0) -> Any:
        monkeypatch.setattr(predict_action, "load_run_model", lambda run: finished(name))
        if isinstance(given, bytes):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        source = "-" if isinstance(given, bytes) else str(given)
        assert main(["predict", "runs/x", "--input", source]) == status
        said = capsys.readouterr()
        return said.err if status else [json.loads(line) for line in said.out.splitlines()]

    return predict


def one_line(name: str) -> str:
    return QUESTION if "question" in finished(name).task.columns else LINE


@pytest.mark.parametrize("name", [*MATRIX.cells, *LABELLED])
def test_every_cell_predicts_one_line(predicted, name):
    [row] = predicted(name, one_line(name).encode())
    assert row["id"] == "1"
    assert len(row) > 1


@pytest.mark.parametrize("name", ["qa-bert", "written-qa-t5"])
def test_a_line_of_text_is_no_question_about_a_text(predicted, name):
    said = predicted(name, LINE.encode(), status=2)
    assert said.count("\n") == 1
    assert "give JSON lines with question and context" in said


@pytest.mark.parametrize("name", [*WRITERS, "ner-gpt2", "lm-t5", LABELLED[0]])
def test_a_thousand_rows_come_back_in_order(predicted, tmp_path, monkeypatch, name):
    monkeypatch.setattr(predict_action, "CHUNK_EXAMPLES", 13)  # more than one chunk, with few rows
    count = 1000 if name == LABELLED[0] else 31
    rows = [f"the {number} lamps" for number in range(count)]
    (tmp_path / "in.txt").write_text("\n".join(rows))
    found = predicted(name, tmp_path / "in.txt")
    assert [row["id"] for row in found] == [str(number + 1) for number in range(count)]


FIRST, SECOND = "the old lamp, sold", "“So?” — said 3 men"


def files() -> dict[str, bytes]:
    lines = f"{FIRST}\n{SECOND}\n"
    objects = [{"source": text} for text in (FIRST, SECOND)]
    jsonl = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in objects)
    quoted = "".join(f'"{text}"\n' for text in (FIRST, SECOND))
    return {
        "plain.txt": lines.encode(),
        "no-end.txt": lines.rstrip("\n").encode(),
        "crlf.txt": lines.replace("\n", "\r\n").encode(),
        "bom.txt": b"\xef\xbb\xbf" + lines.encode(),
        "utf16.txt": lines.encode("utf-16"),
        "blank.txt": f"\n \n{FIRST}\n\t\n\r\n{SECOND}\n\n".encode(),
        "packed.txt.gz": gzip.compress(lines.encode()),
        "notes.json.txt": lines.encode(),
        "rows.jsonl": jsonl.encode(),
        "rows-in-text.txt": b"\xef\xbb\xbf" + jsonl.replace("\n", "\r\n\r\n").encode(),
        "rows.json": json.dumps(objects).encode(),
        "rows.csv": f"source\n{quoted}".encode(),
        "crlf.csv": b"\xef\xbb\xbf" + f"source\n\n{quoted}".replace("\n", "\r\n").encode(),
        "rows.tsv": f"source\n{FIRST}\n{SECOND}\n".encode(),
    }


@pytest.mark.parametrize("file", files())
def test_every_kind_of_file_gives_the_same_rows(tmp_path, file):
    task = finished("translation-t5").task
    (tmp_path / file).write_bytes(files()[file])
    table = predict_action.read_input(str(tmp_path / file), task, DataConfig())
    rows = predict_action.input_examples(table, task, {})
    assert [row["source"] for row in rows] == [FIRST, SECOND]


def test_a_part_of_a_file_is_predicted(tmp_path):
    (tmp_path / "rows.csv").write_bytes(files()["rows.csv"])
    task = finished("translation-t5").task
    table = predict_action.read_input(f"{tmp_path / 'rows.csv'}[1:]", task, DataConfig())
    assert [row["source"] for row in table.take(table.columns)] == [SECOND]


@pytest.mark.parametrize(
    ("file", "content", "data"),
    [
        ("in.tsv", f"{FIRST}\t1\n{SECOND}\t2\n", {"columns": {"source": "column_1"}}),
        ("in.csv", "a, b, c;The text\n1, 2, 3;{}\n4, 5, 6;{}\n", {"columns": {"source": "The text"}}),
        ("in.csv", f"source;n\n{FIRST};1\n{SECOND};2\n", {"columns": {"source": "column_1"}}),
        ("in.tsv", f"source\n{json.dumps(FIRST)}\n{SECOND}\n", {"format": "csv", "train": "a.tsv"}),
    ],
)
def test_a_file_is_read_as_the_run_read_its_data(tmp_path, file, content, data):
    task = finished("translation-t5").task
    (tmp_path / file).write_text(content.replace("{}", FIRST, 1).replace("{}", SECOND), encoding="utf-8")
    table = predict_action.read_input(str(tmp_path / file), task, DataConfig(**data))
    rows = predict_action.input_examples(table, task, data.get("columns", {}))
    assert [row["source"] for row in rows] == [FIRST, SECOND]


WORDS = "Mira NN O\nreist NN O\nnach NN O\nOslo NN B-LOC\n\nTom NN O\nschläft NN O\n"


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        (WORDS, [["Mira", "reist", "nach", "Oslo"], ["Tom", "schläft"]]),
        ("Mira reist nach Oslo\nTom schläft\n", [["Mira", "reist", "nach", "Oslo"], ["Tom", "schläft"]]),
        ("Tom schläft\n\nMira reist\n", [["Tom", "schläft"], ["Mira", "reist"]]),
    ],
)
@pytest.mark.parametrize("file", ["in.txt", "in"])
def test_a_name_that_states_no_format_is_read_by_the_rows_it_has(tmp_path, capsys, file, content, tokens):
    """A run on CoNLL in .txt predicts such a file by sentences, and a file of plain lines by lines."""
    task = finished("ner-gpt2").task
    (tmp_path / file).write_text(content, encoding="utf-8")
    data = DataConfig(train=str(tmp_path / f"train{Path(file).suffix}"), format="conll")
    table = predict_action.read_input(str(tmp_path / file), task, data)
    assert [row["tokens"] for row in predict_action.input_examples(table, task, {})] == tokens
    assert ("read as conll" in capsys.readouterr().err) == (content is WORDS)


@pytest.mark.parametrize("name", ["ner-gpt2", "summarization-t5", LABELLED[2]])
def test_a_row_of_a_text_alone_is_a_line(predicted, tmp_path, name):
    (tmp_path / "in.csv").write_text(f'text\n"{LINE}"\n')
    assert predicted(name, tmp_path / "in.csv") == predicted(name, LINE.encode())


def test_an_entity_is_where_the_line_has_it(predicted):
    [row] = predicted("ner-bert", f"{LINE}\u00a0 \r\n".encode())
    assert row["text"] == f"{LINE}\u00a0 "
    assert row["tokens"][5:12] == ["of", "the", "mill", "(", "near", "Ely", ")"]
    assert all(row["text"][e["start"] : e["end"]] == e["text"] for e in row["entities"])


@pytest.mark.parametrize("name", ["translation-t5", "ner-bert", "lm-gpt2", LABELLED[1]])
def test_a_very_long_line_is_predicted(predicted, name):
    assert len(predicted(name, b"lamps, " * 3000)) == 1


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("none.txt", b"", "the file is empty"),
        ("blank.txt", b"\n \r\n\n", "holds no input"),
        ("none.csv", b"source\n", "holds no input"),
        ("none.jsonl", b"\n", "holds no input"),
        ("none.json", b"[]", "holds no input"),
        ("rows.csv", b"other\na\n", "has no 'source'; columns there: other"),
        ("rows.jsonl", b'{"source": null}\n', "has no 'source'"),
        ("rows.jsonl", b'{"source": "a', "not valid JSON"),
        ("rows.txt", b'{"source": "\\ud800"}\n', "half a character"),
        ("odd.txt", b"caf\xe9\n", "is not UTF-8"),
    ],
)
def test_what_holds_no_row_is_refused_in_a_sentence(predicted, tmp_path, file, content, sentence):
    (tmp_path / file).write_bytes(content)
    said = predicted("translation-t5", tmp_path / file, status=2)
    assert sentence in said
    assert said.count("\n") == 1


def test_nothing_on_standard_input_is_refused_in_a_sentence(predicted):
    assert "standard input: holds no input" in predicted("translation-t5", b"", status=2)


def test_an_output_that_cannot_be_written_is_refused_in_a_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(predict_action, "load_run_model", lambda run: finished("translation-t5"))
    (tmp_path / "in.txt").write_text(LINE)
    command = ["predict", "runs/x", "--input", str(tmp_path / "in.txt"), "--out", str(tmp_path / "no" / "o")]
    assert main(command) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", [*WRITERS, "ner-t5", "qa-gpt2", "written-qa-t5", *LABELLED])
def test_without_references_evaluate_refuses_in_a_sentence(monkeypatch, tmp_path, capsys, name):
    monkeypatch.setattr(evaluate_action, "load_run_model", lambda run: finished(name))
    row = {"text": LINE, "source": LINE, "tokens": LINE.split(), "question": "Who?", "context": LINE}
    (tmp_path / "in.jsonl").write_text(json.dumps(row))
    assert main(["evaluate", "runs/x", "--data", str(tmp_path / "in.jsonl")]) == 2
    said = capsys.readouterr().err
    assert "in.jsonl" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("part", ["", "[:1]"])
def test_the_file_of_the_inputs_is_not_written_over(tmp_path, capsys, part):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a dog"}\n')
    (tmp_path / "link.jsonl").symlink_to(rows)
    for out in (rows, tmp_path / "link.jsonl"):
        assert main(["predict", "runs/x", "--input", f"{rows}{part}", "--out", str(out)]) == 2
        assert "--out: is the file of the inputs" in capsys.readouterr().err
    assert rows.read_text() == '{"text": "a dog"}\n'
