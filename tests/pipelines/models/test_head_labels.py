"""A pretrained head keeps the order of its labels, and other labels are told."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file

from pipelines.cli.main import main
from tests.pipelines.models.checkpoints import stored

NER = ["I-LOC", "B-ORG", "O", "I-PER", "B-PER", "B-LOC", "I-ORG"]  # in no order of the data
MOODS = ["sad", "calm", "glad"]
TEXTS = [("one two", "glad"), ("six", "sad"), ("ten nine", "calm"), ("two two", "glad")]


def named(labels):
    names = dict(enumerate(labels))
    return {"id2label": names, "label2id": {label: number for number, label in names.items()}}


def saying(folder, family, head, labels, *, always):
    """A model whose head says one label whatever it reads."""
    model = stored(folder, family, head, **named(labels))
    output = model.score if family == "decoder" else model.classifier
    torch.nn.init.zeros_(output.weight)
    if output.bias is None:
        output.bias = torch.nn.Parameter(torch.zeros(len(labels)))
    output.bias.data = (
        9.0 * torch.nn.functional.one_hot(torch.tensor(labels.index(always)), len(labels)).float()
    )
    model.save_pretrained(folder)


def write(folder, rows):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [f"data.train={path}", f"data.validation={path}"]


def train(folder, *settings):
    run = folder / "run"
    more = ["learning_rate=1e-12", "max_steps=1", "device=cpu", "--out", str(run)]
    assert main(["train", *settings, *more]) == 0
    rows = [json.loads(line) for line in (run / "predictions.validation.jsonl").read_text().splitlines()]
    return [row["prediction"] for row in rows], run


@pytest.mark.parametrize("always", ["B-ORG", "I-PER"])
def test_a_tagger_says_what_its_head_says(always, tmp_path, capsys):
    saying(tmp_path / "model", "encoder", "AutoModelForTokenClassification", NER, always=always)
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    data = write(tmp_path, [{"tokens": words, "ner_tags": sorted(NER)}] * 3)
    model = [f"model.name={tmp_path / 'model'}", "model.family=encoder"]
    said, run = train(tmp_path, "task=ner", *data, *model)
    assert {label for row in said for label in row} == {always}
    assert "labels" not in capsys.readouterr().err
    assert json.loads((run / "manifest.json").read_text())["task_state"]["labels"] == NER
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["id2label"] == {str(number): label for number, label in enumerate(NER)}


@pytest.mark.parametrize("as_numbers", [False, True])
def test_a_classifier_says_what_its_head_says_and_numbers_keep_their_names(as_numbers, tmp_path):
    """`task.labels` names the numbers of the data; the head has an order of its own."""
    saying(tmp_path / "model", "encoder", "AutoModelForSequenceClassification", MOODS, always="sad")
    given = ["glad", "sad", "calm"]
    rows = [{"text": text, "label": given.index(mood) if as_numbers else mood} for text, mood in TEXTS]
    data, labels = write(tmp_path, rows), [f"task.labels={given}".replace("'", "")] if as_numbers else []
    model = [f"model.name={tmp_path / 'model'}", "model.family=encoder"]
    said, run = train(tmp_path, "task=text_classification", *labels, *data, *model)
    assert said == ["sad"] * 4
    scores = json.loads((run / "manifest.json").read_text())["scores"]["validation"]
    assert scores["accuracy"] == pytest.approx(25.0)
    arguments = ["evaluate", "task=text_classification", *labels, *data, *model, "--split", "validation"]
    assert main(arguments) == 0
    assert main(["evaluate", str(run), "--split", "validation"]) == 0


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            ["sad", "calm", "merry"],
            "names other labels: the data has glad, the head merry; its weights start",
        ),
        (
            ["sad", "calm", "glad", "angry"],
            "has more labels than the data (angry), so it is drawn anew; list",
        ),
        (["sad", "calm"], "names other labels: the data has glad; it is drawn anew"),
        (["LABEL_0", "LABEL_1", "LABEL_2"], "does not name its labels: its weights start in the order calm,"),
        (MOODS, None),
    ],
)
def test_other_labels_are_told_in_one_line(labels, said, tmp_path, capsys):
    stored(tmp_path / "model", "encoder", "AutoModelForSequenceClassification", **named(labels))
    data = write(tmp_path, [{"text": text, "label": mood} for text, mood in TEXTS])
    train(
        tmp_path,
        "task=text_classification",
        *data,
        f"model.name={tmp_path / 'model'}",
        "model.family=encoder",
    )
    lines = [line for line in capsys.readouterr().err.splitlines() if "pretrained head" in line]
    assert len(lines) == (said is not None)
    assert said is None or said in lines[0]


def test_a_decoder_keeps_the_order_of_its_head_too(tmp_path):
    stored(tmp_path / "model", "decoder", "AutoModelForSequenceClassification", **named(MOODS))
    data = write(tmp_path, [{"text": text, "label": mood} for text, mood in TEXTS])
    model = [f"model.name={tmp_path / 'model'}", "model.family=decoder"]
    _, run = train(tmp_path, "task=text_classification", "task.max_len=64", *data, *model)
    before, after = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "model", run / "model")
    )
    torch.testing.assert_close(before["score.weight"], after["score.weight"], rtol=0, atol=1e-6)
    assert transformers.AutoConfig.from_pretrained(run / "model").id2label == dict(enumerate(MOODS))
