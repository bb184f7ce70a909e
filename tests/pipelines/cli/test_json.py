"""`--json` prints one object that the published schema allows; `--expect` makes a verdict the status."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from pipelines.actions.answers import json_schema
from pipelines.cli.main import main
from pipelines.comparison.expectation import STATUS, outcome, together
from pipelines.storage.run_folder import RunFolder
from tests.pipelines import stored_ablation as made
from tests.pipelines.predictions import files as outputs

SCHEMA = json.loads((files("pipelines") / "config/schema/answer.schema.json").read_text())
KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


def fits(value, schema):
    """As much of JSON Schema as the published one uses; a bool is no number."""
    if "$ref" in schema:
        return fits(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return any(fits(value, one) for one in schema["anyOf"])
    if "enum" in schema and value not in schema["enum"]:
        return False
    kind = schema.get("type")
    if kind and (not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return False
    if kind == "array":
        return all(fits(one, schema["items"]) for one in value)
    if kind == "object":
        known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        if not set(schema.get("required", ())) <= value.keys() or (rest is False and value.keys() - known):
            return False
        return all(
            fits(one, known.get(name, rest if isinstance(rest, dict) else {})) for name, one in value.items()
        )
    return True


def answered(capsys, *words):
    """The object that a command prints, checked; nothing else is on stdout."""
    capsys.readouterr()
    status = main([*map(str, words), "--json"])
    shown = capsys.readouterr()
    answer = json.loads(shown.out)
    assert shown.out.count("\n") == 1
    assert fits(answer, SCHEMA), answer
    assert (answer["status"], answer["command"]) == (status, words[0])
    assert bool(answer["errors"]) == (status in (1, 2))
    return answer


def test_the_schema_and_the_page_are_those_of_the_types():
    assert json_schema.SCHEMA.read_text() == json_schema.text()
    page = json_schema.PAGE.read_text()
    assert page == json_schema.page(page)


def test_the_checker_refuses_what_the_schema_does_not_allow():
    answer = {"attnlab": "1", "command": None, "status": 0, "errors": [], "result": None}
    assert fits(answer, SCHEMA)
    wrong = ({"status": "0"}, {"status": True}, {"errors": [1]}, {"more": 1}, {"result": {"folder": "x"}})
    assert not any(fits({**answer, **one}, SCHEMA) for one in wrong)
    assert not fits({}, SCHEMA)


def test_every_command_answers_for_one_ablation(tmp_path, capsys, monkeypatch):
    folder = made.reported(tmp_path)
    report = answered(capsys, "report", folder, "--expect", "better")
    [arm] = report["result"]["comparisons"]
    stored = json.loads((folder / "results.json").read_text())["comparisons"][0]
    assert (arm["p"], arm["difference"], arm["verdict"]) == (
        stored["p"],
        stored["difference"],
        stored["verdict"],
    )
    assert report["status"] == STATUS[arm["outcome"]] == STATUS[report["result"]["outcome"]]
    assert (report["result"]["kind"], arm["ledger"]["looks"]) == ("attention ablation", 1)
    planned = answered(capsys, "plan", folder / "ablation.yaml", "--pilot", folder)["result"]
    [one] = planned["plans"]
    assert (one["arm"], one["pilot_seeds"], one["margin"], one["metric"]) == ("gate", 3, 0.5, "f1")
    unused = answered(capsys, "status", folder, "--unused")["result"]["unused"]
    assert unused == []
    status = answered(capsys, "status", folder)["result"]
    assert (status["counts"], status["over"]) == ({"finished": 6}, True)
    assert {run["state"] for run in status["runs"]} == {"finished"}
    (made.run_folder(folder, "gate", 2) / "statistics.test.parquet").write_bytes(b"")
    failed = answered(capsys, "verify", folder)
    assert (failed["status"], failed["result"]["intact"]) == (1, False)
    assert len(failed["result"]["differences"]) >= 1


def test_failures_answer_with_their_sentences(tmp_path, capsys):
    folder = made.write(tmp_path, finished=())
    assert "no run has finished yet" in answered(capsys, "report", folder)["errors"][0]
    assert "not the folder of an ablation" in answered(capsys, "status", tmp_path)["errors"][0]
    assert "invalid choice: 'best'" in _wrong(capsys, "report", folder, "--expect", "best", "--json")
    assert "a table on the screen has no JSON" in answered(capsys, "status", folder, "--watch")["errors"][0]
    assert "unknown arguments: --json" in _wrong(capsys, "ls", "tasks", "--json")


def _wrong(capsys, *words):
    status = main(list(map(str, words)))
    answer = json.loads(capsys.readouterr().out)
    assert fits(answer, SCHEMA)
    assert (answer["status"], answer["result"], status) == (2, None, 2)
    return answer["errors"][0]


def test_a_comparison_answers_and_its_expectation_is_the_status(tmp_path, capsys):
    gold = outputs.tagged(60)
    references = outputs.conll(tmp_path / "t.conll", gold)
    base, new = (
        outputs.run_ner(tmp_path / f"{name}.txt", outputs.blurred(gold, share, 1))
        for name, share in (("base", 0.4), ("new", 0.05))
    )
    words = ("--task", "ner", "--references", references, "--out", tmp_path / "o")
    found = {}
    for expected in ("better", "not-worse", "equivalent"):
        for sides in ((base, new), (new, base), (base, f"same={Path(base).with_name('copy.txt')}")):
            Path(base).with_name("copy.txt").write_text(Path(base).read_text())
            answer = answered(capsys, "compare", *sides, *words, "--expect", expected)
            found.setdefault(expected, []).append(answer["status"])
    assert found == {"better": [0, 10, 10], "not-worse": [0, 10, 0], "equivalent": [10, 10, 0]}
    assert answer["result"]["kind"] == "comparison after the fact"


@pytest.mark.parametrize(
    ("expected", "word", "within", "changed", "wanted"),
    [
        ("better", "better", False, False, "favour"),
        ("better", "better", True, False, "favour"),
        ("better", "better", False, True, "undecided"),
        ("better", "usually better", False, False, "favour"),
        ("not-worse", "usually worse", False, False, "against"),
        ("not-worse", "usually worse", True, False, "undecided"),
        ("better", "non-inferior", False, False, "undecided"),
        ("better", "equivalent", True, False, "against"),
        ("not-worse", "non-inferior", False, False, "favour"),
        ("not-worse", "worse", True, False, "undecided"),
        ("not-worse", "worse", False, False, "against"),
        ("equivalent", "better", True, False, "undecided"),
        ("equivalent", "better", False, False, "against"),
        ("equivalent", "insensitive", False, False, "undecided"),
    ],
)
def test_what_a_verdict_says_of_an_expectation(expected, word, within, changed, wanted):
    assert outcome(expected, word, within_margin=within, changed=changed) == wanted


def test_one_against_is_enough_and_all_must_be_in_favour():
    assert together(["favour", "favour"]) == "favour"
    assert together(["favour", "undecided"]) == "undecided"
    assert together(["favour", "undecided", "against"]) == "against"
    assert together([]) == "undecided"


def test_a_failed_run_leaves_the_answer_of_the_others(tmp_path, capsys, monkeypatch):
    from pipelines.ablation.cell import Outcome
    from pipelines.actions import ablate
    from pipelines.config.load import run_from_dict
    from pipelines.runs import identity

    class Runs:
        at_a_time, when_stopped = 1, ""

        def run(self, cells, *, stop, on_outcome):
            print("a word of a library")
            for cell in cells:
                if cell.seed == 3:
                    on_outcome(cell, Outcome("failed", "no memory"))
                    continue
                run = run_from_dict(cell.config)
                made.finish(cell.folder, run, identity.describe(run))
                on_outcome(cell, Outcome("finished"))

    monkeypatch.setattr(ablate, "executor_of", lambda *_, **__: Runs())
    file = tmp_path / "a.yaml"
    data = "{generated: {name: ner, train: 9, validation: 9}}"
    run = f"{{task: ner, data: {data}, model: {{architecture: bert, family: encoder}}}}"
    file.write_text(f"cells: {{toy: [{run}]}}\narms: {{stock: [], gate: [gate]}}\nseeds: [1, 2, 3]\n")
    answer = answered(capsys, "ablate", file, "--out", tmp_path / "runs" / "a", "--expect", "better")
    assert answer["status"] == 1
    assert "2 runs failed, the first: " in answer["errors"][0]
    assert [one["word"] for one in answer["result"]["comparisons"]] == ["no-verdict"]
    assert len(answer["result"]["failures"]) == 2
    assert RunFolder(tmp_path / "runs" / "cells").path.is_dir()
