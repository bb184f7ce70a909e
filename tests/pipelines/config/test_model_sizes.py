"""Sizes that no model can have are told by their own names, before any library is imported."""

from __future__ import annotations

import pytest
import yaml

from pipelines.config.load import load_run
from pipelines.errors import UserError

ARCHITECTURES = {"encoder": "bert", "decoder": "gpt2", "encoder_decoder": "bart"}
OTHERS = {"head_dim": "gemma", "conv_dim": "wav2vec2", "d_kv": "t5", "image_size": "vit"}
DATA = {"generated": {"name": "ner", "train": 8, "validation": 4}}


def run(tmp_path, family, entries):
    file = tmp_path / "run.yaml"
    architecture = next((one for name, one in OTHERS.items() if name in entries), ARCHITECTURES[family])
    model = {"architecture": architecture, "family": family, "config": entries}
    file.write_text(yaml.safe_dump({"task": "ner", "data": DATA, "model": model}))
    return load_run([str(file)], [])


@pytest.mark.parametrize(
    ("family", "entries", "said"),
    [
        (
            "encoder",
            {"num_hidden_layers": 2**63 - 1},
            "num_hidden_layers: no model has this size .*1 to 10,000",
        ),
        (
            "encoder",
            {"num_hidden_layers": -1},
            r"config\.num_hidden_layers: no .*\(got -1\)",
        ),
        ("decoder", {"n_layer": 0}, "n_layer: no model has this size"),
        ("encoder_decoder", {"d_ff": -8}, "d_ff: no model has this size .*1 to 16,777,216"),
        (
            "encoder",
            {"hidden_size": 40, "num_attention_heads": 6},
            "size is 40, which is not a mul",
        ),
        (
            "encoder",
            {"image_size": []},
            r"image_size: no image has this size \(got \[\]\); .*height and width",
        ),
        ("encoder", {"image_size": [24, 0]}, r"no image has this size \(got \[24, 0\]\)"),
        ("encoder", {"image_size": 0}, "image_size: no model has this size"),
        ("decoder", {"n_embd": 30, "n_head": 4}, "n_embd is 30, which is not a multiple of n_head"),
        (
            "encoder_decoder",
            {"d_model": 30, "decoder_attention_heads": 4},
            "d_model is 30, which is not a multiple",
        ),
    ],
)
def test_a_size_that_cannot_be_is_refused(tmp_path, family, entries, said):
    with pytest.raises(UserError, match=said) as caught:
        run(tmp_path, family, entries)
    assert f"{tmp_path}/run.yaml:" in str(caught.value)


@pytest.mark.parametrize(
    ("family", "entries"),
    [
        ("encoder", {"hidden_size": 40, "num_attention_heads": 5}),
        ("encoder", {"hidden_size": 40, "num_attention_heads": 6, "head_dim": 8}),
        ("decoder", {"hidden_size": 40, "num_attention_heads": 6, "head_dim": 8}),
        ("encoder_decoder", {"d_model": 26, "num_heads": 3, "d_kv": 6}),
        ("encoder", {"pad_token_id": -1, "conv_dim": [4, 4]}),
        ("encoder", {"image_size": [24, 32], "patch_size": 8}),
    ],
)
def test_sizes_of_real_models_are_taken(tmp_path, family, entries):
    assert run(tmp_path, family, entries).model.config == entries
