"""Every format gives its examples; what cannot be paired or scored is one sentence."""

from __future__ import annotations

import gzip
import json
import re

import numpy as np
import pytest

from pipelines.actions.compare import Request, compare_command
from pipelines.cli.main import main
from pipelines.errors import UserError
from pipelines.predictions import sides
from pipelines.predictions.read import read
from pipelines.predictions.table import NamedColumns
from tests.pipelines.predictions import files

VALUES = [1.0, 0.0, 0.5, 1.0]


def found(path):
    return read(str(path), NamedColumns())


@pytest.mark.parametrize("before", [False, True])
def test_details_of_lighteval_of_both_layouts(tmp_path, before):
    one = found(files.lighteval(tmp_path / "details_gsm8k.parquet", VALUES, before=before))
    assert (list(one.score("qem")), list(one.predictions)) == (VALUES, ["a0", "a1", "a2", "a3"])
    assert one.shown == ["q0", "q1", "q2", "q3"]


@pytest.mark.parametrize("write", [files.inspect_json, files.inspect_eval])
def test_logs_of_inspect_with_letters_epochs_and_several_values(tmp_path, write):
    samples = files.inspect_samples(["C", "I", "P", "N"] * 3)
    one = found(write(tmp_path / "a.eval", samples))
    by_id = dict(zip(one.ids, zip(one.score("match"), one.predictions)))
    assert by_id == {f"s{n}": ([1.0, 0.0, 0.5, 0.0][n % 4], f"a{n}") for n in range(12)}
    several = files.inspect_samples([["C", "I"], ["C", "C"]], epochs=2)
    epochs = found(write(tmp_path / "b.eval", several))
    assert (list(epochs.score("match")), epochs.predictions) == ([0.5, 1.0], None)
    graded = files.inspect_samples([{"style": 3, "truth": 0.5}])
    assert list(found(write(tmp_path / "c.eval", graded)).score("match.truth")) == [0.5]


def test_samples_of_lm_eval_by_filter(tmp_path):
    one = found(files.lm_eval(tmp_path / "samples_x.jsonl", {"none": VALUES}))
    assert (list(one.score("exact_match")), one.predictions[2]) == (VALUES, "2")
    two = found(files.lm_eval(tmp_path / "samples_y.jsonl", {"strict": VALUES, "flexible": VALUES[::-1]}))
    assert list(two.score("exact_match,flexible")) == VALUES[::-1]
    with pytest.raises(UserError, match=r"has no score 'exact_match'; its scores: exact_match,strict, exact"):
        two.score("exact_match")


def test_answers_of_run_qa_and_the_first_of_its_nbest(tmp_path):
    answers = {"b": "two", "a": ""}
    nbest = {name: [{"text": text, "probability": 0.9}, {"text": "no"}] for name, text in answers.items()}
    for content in (answers, nbest):
        one = found(files.text(tmp_path / "predict_predictions.json", json.dumps(content)))
        assert (one.ids, list(one.predictions)) == (("b", "a"), ["two", ""])
    odds = found(files.text(tmp_path / "null_odds.json", json.dumps({"a": -1.5})))
    assert odds.predictions is None


def test_labels_of_run_classification_and_tables(tmp_path):
    text = "index\tprediction\r\n1\tgood\r\n0\tbad\r\n"
    one = found(files.text(tmp_path / "predict_results_sst2.txt", text))
    assert (one.ids, list(one.predictions)) == (("1", "0"), ["good", "bad"])
    csv = found(files.text(tmp_path / "a.csv", "\ufeffid,prediction,label,f1\nx,good,bad,0.5\ny,bad,bad,1\n"))
    assert (csv.ids, list(csv.predictions), list(csv.score("f1"))) == (
        ("x", "y"),
        ["good", "bad"],
        ["0.5", "1"],
    )
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"id": 1, "prediction": "a\\u2028b"}\n'))
    assert list(found(packed).predictions) == ["a\u2028b"]


def test_a_line_is_a_prediction_whatever_stands_in_it(tmp_path):
    one = found(files.text(tmp_path / "p.txt", "\ufeffeins\r\n\r\nzwei\u2028drei\x85vier\r\n"))
    assert list(one.predictions) == ["eins", "", "zwei\u2028drei\x85vier"]


def test_sides_are_named_by_what_differs_and_paired_by_their_wildcards(tmp_path):
    for name in ("base-10", "base-2", "new-2", "new-10"):
        files.text(tmp_path / "runs" / name / "p.txt", "x\n")
    both = sides.find([str(tmp_path / "runs" / f"{name}-*" / "p.txt") for name in ("base", "new")])
    assert [side.name for side in both.sides] == ["base", "new"]
    assert (both.seeds, both.note) == ((2, 10), "")
    assert [len(set(side.files)) for side in both.sides] == [2, 2]
    other = files.text(tmp_path / "runs" / "odd-3" / "p.txt", "x\n")
    files.text(tmp_path / "runs" / "odd-4" / "p.txt", "x\n")
    loose = sides.find([f"a={tmp_path}/runs/new-*/p.txt", f"b={tmp_path}/runs/odd-*/p.txt"])
    assert loose.seeds == (1, 2)
    assert "in the order of their names (a 2, 10; b 3, 4)" in loose.note
    with pytest.raises(UserError, match=r"different numbers of files .got a 2 files, b 1 file."):
        sides.find([f"a={tmp_path}/runs/new-*/p.txt", f"b={other}"])


def scores(tmp_path, name, rows):
    return str(files.json_lines(tmp_path / f"{name}.jsonl", rows))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": n, "s": 1.0} for n in (0, 1, 2, 7)], r"lacks 1 id of .*'3'.* and has 1 id that .*'7'"),
        ([{"id": n, "s": 1.0} for n in (0, 1, 2)], r"lacks 1 id of .*a.jsonl .such as '3'"),
        ([{"id": n % 3, "s": 1.0} for n in range(4)], r"has the id '0' twice"),
        ([{"id": n, "s": float("nan")} for n in range(4)], r"id 0: the score s is no finite number .got nan"),
        ([{"id": n} for n in range(4)], r"has no score 's'; its scores: none"),
        ([{"id": n, "s": [1]} for n in range(4)], r"the score s is no finite number .got \[1\]"),
        ([{"id": n, "s": None} for n in range(4)], r"the score s is missing"),
        ([{"s": 1.0}] * 3, r"have different numbers of examples .got 3 and 4"),
    ],
)
def test_what_cannot_be_paired_is_one_sentence(tmp_path, capsys, rows, message):
    base = scores(tmp_path, "a", [{"id": n, "s": 0.5 * n} for n in range(4)])
    other = scores(tmp_path, "b", rows)
    assert main(["compare", base, other, "--score", "s", "--out", str(tmp_path / "out")]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(message, last), last


def test_ids_pair_examples_in_any_order_and_other_questions_are_refused(tmp_path, capsys):
    values = np.random.default_rng(0).random(30).tolist()
    rows = [{"id": f"e{n}", "s": value} for n, value in enumerate(values)]
    base = scores(tmp_path, "a", rows)
    other = scores(tmp_path, "b", [{**row, "s": row["s"] + 0.01 * n} for n, row in enumerate(rows)][::-1])
    answer = compare_command(Request(sides=[base, other], scores=["s"]), str(tmp_path / "out"))
    assert answer.comparisons[0].difference == pytest.approx(0.01 * 14.5)
    logs = [
        str(files.inspect_json(tmp_path / f"{n}.json", [{**s, "input": f"{n}{s['id']}"} for s in samples]))
        for n, samples in enumerate([files.inspect_samples(["C", "I"])] * 2)
    ]
    assert main(["compare", *logs, "--score", "match", "--out", str(tmp_path / "o")]) == 2
    assert "is another example than in" in capsys.readouterr().err


def test_tags_must_be_as_many_as_words_and_labels_must_be_known(tmp_path):
    gold = files.tagged(12)
    references = str(files.conll(tmp_path / "t.conll", gold))
    base = str(files.run_ner(tmp_path / "a.txt", gold))
    cut = str(files.run_ner(tmp_path / "b.txt", [*gold[:-1], gold[-1][:-1]]))
    request = Request(sides=[base, cut], task="ner", references=references)
    with pytest.raises(UserError, match=r"b.txt, example 12: has \d tags, and its sentence \d words"):
        compare_command(request, str(tmp_path / "out"))
    labels = str(files.json_lines(tmp_path / "l.jsonl", [{"label": name} for name in ("yes", "no", "no")]))
    sides_of = [
        str(files.text(tmp_path / f"{n}.txt", t)) for n, t in (("c", "yes\nno\nno\n"), ("d", "yes\nno\n1\n"))
    ]
    request = Request(sides=sides_of, task="text_classification", references=labels)
    with pytest.raises(UserError, match=r"d.txt, example 3: the prediction is the label '1', and the labels"):
        compare_command(request, str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--task", "language_modelling", "--references", "r.txt"),
            "has no reference that a file could hold",
        ),
        (("--task", "ner", "--references", "r.txt"), "r.txt: is no list of tags of named entities"),
        (("--task", "translation", "--references", "none.txt"), "--references: there is no such file"),
        (("--task", "translation", "--references", "r.txt", "task.kind=x"), "unknown option 'kind'"),
        (("--score", "s"), "p.txt: has no score 's'; its scores: none"),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    for name in ("p", "q", "r"):
        files.text(tmp_path / f"{name}.txt", f"ein Satz {name}\nnoch einer\n")
    assert main(["compare", "p.txt", "q.txt", *words, "--out", "out"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in last


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.eval", b"PK\x03\x04 cut off", "cannot be read as a log"),
        ("a.zip", b"PK\x03\x04 cut off", "is a zip archive"),
        ("a.txt", b"", "the file is empty"),
        ("a.txt", "café".encode("latin-1"), "line 1: is not UTF-8"),
        ("a.json", b'{"a": ', "is not valid JSON"),
        ("a.json", b'{"a": {"b": 1}}', "is JSON of no known kind"),
        ("a.json", b"[" * 50_000, "is nested without end"),
        ("a.jsonl", b'{"a": 1}\n{"a"', "row 2: is not valid JSON"),
        ("a.parquet", b"PAR1 and more", "is not a whole parquet file"),
        ("a.csv", b"id,prediction\n", "holds no example"),
        ("a.csv", b"pred,prediction\nx,y\n", "may have its predictions in prediction or pred"),
        ("a.jsonl", b'{"id": null, "prediction": "x"}\n', "row 1: has no id in 'id'"),
        ("a.json", b'{"samples": [], "eval": {}}', "is a log without samples"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(message)):
        found(tmp_path / name)


def test_numbers_alone_are_scores_called_value_and_tables_inside_json_are_found(tmp_path):
    lines = found(files.text(tmp_path / "chrf.txt", "0.5\n1\n0.25\n"))
    assert list(lines.score("value")) == ["0.5", "1", "0.25"]
    listed = found(files.text(tmp_path / "a.json", "[0.5, 1]"))
    assert list(listed.score("value")) == [0.5, 1]
    system = {"out.txt": [{"mt": "x", "COMET": 0.8}, {"mt": "y", "COMET": 0.9}]}
    assert list(found(files.text(tmp_path / "comet.json", json.dumps(system))).score("COMET")) == [0.8, 0.9]
    whole = files.text(tmp_path / "all_results.json", json.dumps({"epoch": 3.0, "eval_f1": 0.9}))
    with pytest.raises(
        UserError, match="holds scores of whole runs, such as epoch, and nothing of an example"
    ):
        found(whole)


def test_references_of_squad_pair_answers_by_id_and_count_texts(tmp_path):
    articles = [
        {
            "title": f"T{n}",
            "paragraphs": [
                {
                    "context": f"In {n} the bridge was built by Anna {n}.",
                    "qas": [
                        {
                            "id": f"q{n}{k}",
                            "question": "who?",
                            "answers": [{"text": f"Anna {n}", "answer_start": 29 + len(str(n)) - 1}],
                        }
                        for k in range(2)
                    ],
                }
            ],
        }
        for n in range(12)
    ]
    gold = files.text(tmp_path / "dev.json", json.dumps({"version": "1.1", "data": articles}))
    answers = {f"q{n}{k}": f"Anna {n}" if n % 3 else "Anna" for n in range(12) for k in range(2)}
    base = files.text(tmp_path / "base" / "predictions.json", json.dumps(answers))
    new = {name: f"Anna {name[1:-1]}" for name in reversed(answers)}
    nbest = {name: [{"text": text}, {"text": "x"}] for name, text in new.items()}
    other = files.text(tmp_path / "new" / "nbest_predictions.json", json.dumps(nbest))
    request = Request(sides=[str(base), str(other)], task="question_answering", references=str(gold))
    [one] = compare_command(request, str(tmp_path / "out")).comparisons
    assert (one.arm_mean, one.examples, one.metric) == (100.0, 24, "f1")
    [row] = [
        row
        for row in json.loads((tmp_path / "out" / "results.json").read_text())["comparisons"]
        if row["metric"] == "exact_match"
    ]
    assert row["n_clusters"] == 12
    assert row["difference"] == pytest.approx(100 / 3)
