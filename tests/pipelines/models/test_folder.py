"""A folder that holds no whole model is refused in one sentence that says what to do."""

from __future__ import annotations

import json

import pytest
import torch

from pipelines.cli.main import main
from pipelines.errors import UserError
from pipelines.models.folder import model_folder
from tests.pipelines.models.checkpoints import WEIGHTS, stored

CONFIG = '{"model_type": "bert"}'
FOLDERS = [  # files, what is said
    ({}, "the folder has no config.json"),
    ({"config.json": CONFIG}, "the folder has no weights"),
    ({WEIGHTS: ""}, "the folder has no config.json"),
    ({WEIGHTS: "", "model/config.json": CONFIG}, "the folder has no config.json .*name .*model"),
    ({"checkpoint-40/config.json": CONFIG}, "the folder has no config.json .*name .*checkpoint-40"),
    (
        {WEIGHTS: "version https://git-lfs.github.com/spec/v1\noid sha256:1f\n", "config.json": CONFIG},
        "is a Git LFS pointer, not the weights .*git lfs pull",
    ),
    ({WEIGHTS: "", "config.json": "{}"}, "does not say which architecture it is"),
    ({WEIGHTS: "", "config.json": "[1]"}, "config.json: holds no JSON object"),
    ({WEIGHTS: "", "config.json": "{oops"}, "config.json: is damaged"),
    ({"config.json": CONFIG, "pytorch_model.bin": ""}, r"are pickles \(pytorch_model.bin\).*save it again"),
    ({"config.json": CONFIG, "pytorch_model-00001-of-00002.bin": ""}, "are pickles"),
    ({"config.json": CONFIG, "training_args.bin": ""}, "the folder has no weights"),
    ({"last.ckpt": ""}, r"are pickles \(last.ckpt\)"),
    ({"tiny.Q4.gguf": ""}, r"of the form GGUF \(tiny.Q4.gguf\)"),
    ({"config.json": CONFIG, "tf_model.h5": ""}, "of the form TensorFlow"),
    (
        {"adapter_config.json": '{"base_model_name_or_path": "base/one"}', "adapter_model.safetensors": ""},
        "holds an adapter of base/one .*merge it",
    ),
]


@pytest.mark.parametrize(("files", "said"), FOLDERS)
def test_a_folder_without_a_whole_model_is_refused(files, said, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        model_folder(str(tmp_path))


def test_a_hub_id_and_a_whole_folder_are_taken(tmp_path):
    stored(tmp_path, "encoder")
    assert model_folder(str(tmp_path)) == str(tmp_path)
    assert model_folder("org/model") == "org/model"


@pytest.mark.parametrize("command", ["train", "evaluate", "inspect"])
@pytest.mark.parametrize("damage", ["pickle", "truncated", "no type", "own code"])
def test_every_command_refuses_it_in_one_sentence(command, damage, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody is asked whether to run code"))
    stored(tmp_path / "model", "encoder", num_labels=3)
    weights, config = tmp_path / "model" / WEIGHTS, tmp_path / "model" / "config.json"
    if damage == "pickle":
        weights.unlink()
        torch.save({}, tmp_path / "model" / "pytorch_model.bin")
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:500])
    elif damage == "own code":
        values = json.loads(config.read_text()) | {"model_type": "nobert"}
        config.write_text(
            json.dumps(values | {"auto_map": {"AutoConfig": "configuration_nobert.NoBertConfig"}})
        )
    else:
        values = json.loads(config.read_text())
        config.write_text(json.dumps({key: value for key, value in values.items() if key != "model_type"}))
    data = [
        "data.generated={name: ner, train: 6, validation: 4}",
        "task={name: ner, labels: [O, B-PER, I-PER]}",
    ]
    model = [f"model.name={tmp_path / 'model'}", "model.family=encoder", "device=cpu"]
    out = ["--out", str(tmp_path / "run")] if command == "train" else []
    labels = ["task.labels=[O, B-PER, I-PER, B-LOC, I-LOC, B-ORG, I-ORG]"]
    assert main([command, *data, *labels, *model, *out]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("model.name: ")
    assert "Traceback" not in last
    assert ("has code of its own, which is not run" in last) == (damage == "own code")
