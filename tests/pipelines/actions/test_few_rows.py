"""A run on the fewest rows trains, is evaluated, predicts, and is made ready to push."""

from __future__ import annotations

import json

import pytest

from pipelines.cli.main import main
from tests.pipelines.tasks.writing import SIZES

ROWS = {
    "text_classification": [{"text": f"{word} film", "label": word} for word in ("good", "bad")],
    "translation": [{"source": "ein roter Hut", "target": "a red hat"}],
}
LACKING = {"text_classification": {"text": "no label"}, "translation": {"source": "ohne Ziel"}}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("task", "family"),
    [("text_classification", "encoder_decoder"), ("translation", "encoder")],
)
def test_a_run_on_few_rows_is_evaluated_and_predicts(tmp_path, capsys, monkeypatch, task, family):
    file, run = tmp_path / "rows.jsonl", tmp_path / "run"
    rows = [*ROWS[task], LACKING[task]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    architecture, sizes = SIZES[family]
    settings = [f"task={task}", f"data.train={file}", f"data.validation={file}", "data.on_bad_row=skip"]
    settings += [f"model.architecture={architecture}", f"model.family={family}", "model.vocab_size=300"]
    settings += [f"model.config.{name}={json.dumps(value)}" for name, value in sizes.items()]
    lengths = ["max_len"] if task == "text_classification" else ["max_source_len", "max_target_len"]
    settings += [f"task.{name}=16" for name in lengths]
    settings += ["attention=[gate]", "max_steps=1", "device=cpu"]
    assert main(["train", *settings, "--out", str(run)]) == 0
    assert "train: 1 row left out" in "".join(capsys.readouterr())
    assert main(["evaluate", str(run)]) == 0
    for count in (1, 40):
        inputs = tmp_path / "inputs.jsonl"
        inputs.write_text("".join(json.dumps(LACKING[task]) + "\n" for _ in range(count)), encoding="utf-8")
        capsys.readouterr()
        assert main(["predict", str(run), "--input", str(inputs)]) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["id"] for row in found] == [str(number + 1) for number in range(count)]
    (tmp_path / "none.jsonl").write_text("\n")
    assert main(["predict", str(run), "--input", str(tmp_path / "none.jsonl")]) == 2
    if family == "encoder":  # a push checks the model in a fresh process, so one is enough
        return
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert main(["push", str(run), "me/few", "--dry-run"]) == 0, capsys.readouterr().err
