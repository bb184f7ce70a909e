"""A file of results replaces neither the inputs nor a file of a run or of an ablation."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cli.main import main
from tests.pipelines import stored_ablation as made

COMMANDS = {
    "predict": lambda run, inputs, out: ["predict", run, "--input", inputs, "--out", out],
    "generate": lambda run, inputs, out: ["generate", run, "--input", inputs, "--out", out],
    "evaluate": lambda run, inputs, out: ["evaluate", run, "--data", inputs, "--predictions", out],
}


@pytest.fixture(autouse=True)
def runs_keep_their_model(monkeypatch):
    """These runs have none, and nothing is predicted."""
    monkeypatch.setattr("pipelines.runs.finished.require_finished", lambda folder: None)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_inputs_are_not_replaced(folder, tmp_path, capsys, command):
    inputs = tmp_path / "rows.jsonl"
    inputs.write_text('{"words": ["a"]}\n')
    link = tmp_path / "link.jsonl"
    link.symlink_to(inputs)
    run = str(made.run_folder(folder, "gate", 1))
    for source, out in ((inputs, inputs), (f"{inputs}[:5]", inputs), (inputs, link)):
        assert main(COMMANDS[command](run, str(source), str(out))) == 2
        assert "is the file of the inputs" in capsys.readouterr().err
    assert inputs.read_text() == '{"words": ["a"]}\n'


@pytest.mark.parametrize("command", COMMANDS)
def test_the_files_of_runs_and_ablations_are_not_replaced(folder, tmp_path, capsys, command):
    run = made.run_folder(folder, "gate", 1)
    inputs = tmp_path / "rows.jsonl"
    inputs.write_text('{"words": ["a"]}\n')
    for out in (run / "predictions.test.jsonl", folder / "results.json", run / "model" / "model.safetensors"):
        before = out.read_bytes()
        assert main(COMMANDS[command](str(run), str(inputs), str(out))) == 2
        assert f"is a file of a run or an ablation (got {out})" in capsys.readouterr().err
        assert out.read_bytes() == before


def test_a_drawing_is_put_in_no_place_of_a_report(folder, capsys):
    assert main(["report", str(folder)]) == 0
    before = (folder / "report.html").read_bytes()
    run = made.run_folder(folder, "gate", 1)
    assert main(["show", str(run), "--input", "a road", "--out", str(Path(folder, "report"))]) == 2
    assert "--out: is a file of a run or an ablation" in capsys.readouterr().err
    assert (folder / "report.html").read_bytes() == before
