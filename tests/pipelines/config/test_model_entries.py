"""Names and values in `model.config` are held against transformers' config class, read from its source."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import transformers
import yaml

from pipelines.config import model_entries
from pipelines.config.load import load_run
from pipelines.errors import UserError

FAMILIES = {"bert": "encoder", "gpt2": "decoder", "t5": "encoder_decoder", "llama": "decoder"}
ARCHITECTURES = [*FAMILIES, "bart", "roberta", "albert", "deberta-v2", "vit", "patchtst", "marian", "mistral"]
VALUES = (0, 1, -1, 3, 0.5, 2.5, True, None, "x", "gelu", [1], ["x"], {}, {"a": 1})
# Entries that may be another name of one: transformers does not check those.
UNCHECKED_THERE = (
    "max_position_embeddings",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "head_dim",
)


def run(tmp_path, architecture: str, entries: dict):
    model = {"architecture": architecture, "family": FAMILIES[architecture], "config": entries}
    return load(tmp_path, model)


def load(tmp_path, model: dict):
    file = tmp_path / "run.yaml"
    data = {"generated": {"name": "ner", "train": 8, "validation": 4}}
    file.write_text(yaml.safe_dump({"task": "ner", "data": data, "model": model}))
    return load_run([str(file)], [])


@pytest.mark.parametrize(
    ("architecture", "entries", "said"),
    [
        ("bert", {"hiden_size": 8}, "hiden_size: this architecture has no such entry; perhaps hidden_size"),
        ("gpt2", {"type_vocab_size": 2}, "type_vocab_size: this architecture has no such entry"),
        ("t5", {"to_dict": 1}, "to_dict: this architecture has no such entry"),
        ("bert", {"hidden_size": "8"}, r"hidden_size cannot have this value \(got '8'\); accepted: int"),
        ("t5", {"num_decoder_layers": 1.5}, r"num_decoder_layers cannot .* accepted: int \| None"),
        ("t5", {"hidden_size": 1.5}, "hidden_size cannot"),  # another name of d_model
        ("llama", {"rms_norm_eps": 1}, r"rms_norm_eps cannot .* write 1\.0"),
        ("gpt2", {"activation_function": "gelo"}, "activation_function cannot .* perhaps gelu was meant"),
        ("bert", {"hidden_dropout_prob": 1.5}, "hidden_dropout_prob cannot .* 0 to 1"),
        ("llama", {"initializer_range": -0.02}, "initializer_range cannot .* 0 or more"),
        ("bert", {"num_labels": 3}, "num_labels is set by the run itself; leave it out"),
        ("t5", {"is_encoder_decoder": False}, "is_encoder_decoder is set by the run itself"),
        ("bert", {"num_attention_heads": 5}, "hidden_size is 768, which is not a multiple"),
        ("gpt2", {"n_embd": 100}, "n_embd is 100, which is not a multiple of n_head .12"),
    ],
)
def test_an_entry_that_the_architecture_cannot_have_is_refused(tmp_path, architecture, entries, said):
    with pytest.raises(UserError, match=said):
        run(tmp_path, architecture, entries)


@pytest.mark.parametrize(
    ("architecture", "entries"),
    [
        ("bert", {"hidden_dropout_prob": 0, "hidden_act": "relu", "pad_token_id": None}),
        ("t5", {"dense_act_fn": "gelu", "num_layers": 1, "head_dim": 4}),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, "eos_token_id": [1, 2]}),
    ],
)
def test_entries_that_it_has_are_taken(tmp_path, architecture, entries):
    assert run(tmp_path, architecture, entries).model.config == entries


def test_a_pretrained_folder_is_held_against_its_own_sizes_and_names(tmp_path):
    stored = {"model_type": "bert", "hidden_size": 36, "num_attention_heads": 3, "of_a_fork": 1}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(stored))
    model = {"name": "./model", "family": "encoder"}
    assert load(tmp_path, {**model, "config": {"num_attention_heads": 4, "of_a_fork": 2}})
    with pytest.raises(UserError, match="hidden_size is 36, which is not a multiple"):
        load(tmp_path, {**model, "config": {"num_attention_heads": 5}})
    with pytest.raises(UserError, match="perhaps hidden_size was meant"):
        load(tmp_path, {**model, "config": {"hidden_sizes": 5}})


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"model_type": "nobody"}', '{"model_type": [1]}', "[" * 9999]
)
def test_what_the_config_of_a_folder_does_not_say_is_left_to_train(tmp_path, content):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(content)
    assert load(tmp_path, {"name": "./model", "family": "encoder", "config": {"anything": 1}})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_refused_is_what_transformers_refuses(architecture):
    """The oracle is transformers' own config class."""
    known = model_entries.class_entries(architecture)
    built = transformers.AutoConfig.for_model(architecture)
    assert known
    assert all(hasattr(built, name) for name in known if not name.startswith("rope_"))
    own = set(built.to_dict()) - set(transformers.PreTrainedConfig().to_dict())
    assert own <= known.keys()
    for name, entry in known.items():
        for value in VALUES if not name.endswith(UNCHECKED_THERE) else ():
            reason = model_entries._reason(name, value, entry.hint)
            if reason is not None and not reason.startswith(("perhaps", "accepted: gelu", "accepted: 0 ")):
                with pytest.raises(Exception):  # noqa: B017 - each class refuses in its own way
                    transformers.AutoConfig.for_model(architecture, **{name: value})


def test_no_library_is_imported_for_it():
    code = (
        "import sys; from pipelines.config import model_entries as m; assert m.class_entries('bert'); "
        "print([n for n in ('torch', 'transformers', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
