"""The shortcut `dropout` reaches every dropout of a model, whatever its config calls it."""

from __future__ import annotations

import pytest
import torch
import transformers

from pipelines.cli.main import main
from pipelines.config.load import run_from_dict
from pipelines.errors import UserError
from pipelines.models.build import build_model
from pipelines.models.dropout import dropout_entries

BERT = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 29}
TINY = {
    ("bert", "encoder"): BERT,
    ("distilbert", "encoder"): {"dim": 24, "n_layers": 1, "n_heads": 3, "hidden_dim": 29},
    ("roberta", "encoder"): BERT,
    ("electra", "encoder"): BERT | {"embedding_size": 16},
    ("gpt2", "decoder"): {"n_embd": 24, "n_layer": 1, "n_head": 3, "n_positions": 64},
    ("opt", "decoder"): {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "ffn_dim": 29},
    ("t5", "encoder_decoder"): {"d_model": 24, "d_kv": 7, "num_layers": 1, "num_heads": 3, "d_ff": 29},
    ("bart", "encoder_decoder"): {
        "d_model": 24, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 3,
        "decoder_attention_heads": 3,
    },
}  # fmt: skip


def run(architecture, family, sizes, **changes):
    model = {"architecture": architecture, "family": family, "config": sizes | {"vocab_size": 99}}
    task = {"name": "text_classification", "labels": ["a", "b"]}
    data = {"train": "a.jsonl", "validation": "b.jsonl"}
    return run_from_dict({"task": task, "data": data, "model": model} | changes)


def probabilities(model) -> list[float]:
    """Those of all dropout modules, and of attention modules that keep it as a number."""
    found = [one.p for one in model.modules() if isinstance(one, torch.nn.Dropout)]
    for module in model.modules():
        names = [name for name in vars(module) if name.endswith(("dropout", "dropout_p", "dropout_prob"))]
        found += [float(value) for name in names if isinstance(value := getattr(module, name), int | float)]
    return found


@pytest.mark.parametrize(("architecture", "family"), TINY)
@pytest.mark.parametrize("dropout", [0.0, 0.37])
def test_every_dropout_of_a_model_is_that_of_the_run(architecture, family, dropout):
    asked = run(architecture, family, TINY[architecture, family], dropout=dropout)
    found = probabilities(build_model(asked, "sequence_classification", None, {}))
    assert len(found) >= 2
    assert set(found) == {dropout}


def test_a_pretrained_model_gets_it_too(tmp_path):
    asked = run("bert", "encoder", TINY["bert", "encoder"])
    build_model(asked, "sequence_classification", None, {}).save_pretrained(tmp_path)
    values = asked.to_dict() | {"model": {"name": str(tmp_path), "family": "encoder"}, "dropout": 0.25}
    model = build_model(run_from_dict(values), "sequence_classification", None, {})
    assert set(probabilities(model)) == {0.25}


def test_without_it_the_config_decides():
    asked = run("bert", "encoder", TINY["bert", "encoder"] | {"attention_probs_dropout_prob": 0.3})
    assert set(probabilities(build_model(asked, "sequence_classification", None, {}))) == {0.1, 0.3}


def test_skipped_layers_and_paths_are_no_dropout():
    assert dropout_entries(transformers.BartConfig()) == [
        "activation_dropout", "attention_dropout", "classifier_dropout", "dropout",
    ]  # fmt: skip
    assert "path_dropout" not in dropout_entries(transformers.PatchTSTConfig())


def test_an_architecture_without_dropout_is_refused():
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "state_size": 4}
    with pytest.raises(UserError, match=r"dropout: \w+Config states no dropout; leave it out"):
        build_model(run("mamba", "decoder", sizes, dropout=0.1), "language_modelling", None, {})


def test_inspect_names_the_entries(capsys):
    sizes = ", ".join(f"{name}: {value}" for name, value in TINY["gpt2", "decoder"].items())
    model = f"model={{architecture: gpt2, family: decoder, vocab_size: 300, config: {{{sizes}}}}}"
    data = "data.generated={name: ner, train: 9, validation: 9}"
    assert main(["inspect", "task={name: ner, max_len: 32}", data, model, "dropout=0.2"]) == 0
    said = capsys.readouterr().out
    assert (
        "dropout 0.2: attn_pdrop, embd_pdrop, resid_pdrop, summary_first_dropout of the model's config"
        in said
    )
