"""Freezing: what is named keeps its values and is counted; a name that fits nothing is refused."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

import pytest
import torch
from safetensors.torch import load_file

import custom_attention
from pipelines.cli.main import main
from pipelines.errors import UserError
from pipelines.models.freeze import freeze
from tests.pipelines.tasks.writing import SIZES, config, model

SETTINGS = [
    "task={name: translation, max_source_len: 32, max_target_len: 9}",
    "data.generated={name: translation, train: 24, validation: 5}",
    "batch_size=8",
    "learning_rate=1e-2",
    "num_epochs=1",
    "device=cpu",
    "diagnostics_every_steps=null",
]
# family -> patterns, and what they freeze as full names
FROZEN = {
    "encoder": (["embeddings", "encoder.layer.0"], ["*.embeddings.*", "*encoder.layer.0.*"]),
    "decoder": (["wte", "h.[0-0]", "ln_f.bias"], ["*.wte.*", "*.h.0.*", "*.ln_f.bias"]),
    "encoder_decoder": (["shared", "decoder.block.1"], ["shared.*", "decoder.block.1.*"]),
}


def tiny(family: str) -> str:
    architecture, sizes = SIZES[family]
    listed = ", ".join(f"{name}: {value}" for name, value in sizes.items())
    return f"model={{architecture: {architecture}, family: {family}, vocab_size: 300, config: {{{listed}}}}}"


@pytest.mark.parametrize("family", SIZES)
def test_what_is_frozen_keeps_its_bits_and_all_else_learns(family, tmp_path, capsys):
    torch.set_num_threads(1)
    patterns, full = FROZEN[family]
    run = ["train", tiny(family), *SETTINGS, "attention=[gate]"]
    assert main([*run, f"freeze={json.dumps(patterns)}", "--out", str(tmp_path / "learned")]) == 0
    said = capsys.readouterr()
    [line] = [line for line in (said.out + said.err).splitlines() if line.startswith("frozen: ")]
    # A rate so small that no weight moves: those before training.
    assert (
        main([*run, "learning_rate=1e-30", "variant_learning_rate=1e-30", "--out", str(tmp_path / "start")])
        == 0
    )
    learned, start = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("learned", "start")
    )
    same = {name for name, value in learned.items() if torch.allclose(value, start[name], rtol=0, atol=1e-20)}
    named = {name for name in learned if any(fnmatchcase(name, one) for one in full)}
    assert len(named) > 3
    assert same - named == {name for name in same - named if not _learns(name)}
    assert named - same == {name for name in named if "attnlab" in name or "gate" in name}
    counted = sum(learned[name].numel() for name in named & same)
    assert line.startswith(f"frozen: {counted:,} of "), line


def _learns(name: str) -> bool:
    """The pooler of bert2bert is not read; a constant added to keys changes nothing, but for rounding."""
    return "pooler" not in name and not name.endswith("key.bias")


def test_each_pattern_is_counted_and_a_module_counts_once():
    made = model("encoder")
    line = freeze(made, ["embeddings", "word_embeddings", "layer.*.output"], train_variant=True)
    frozen = [parameter for parameter in made.parameters() if not parameter.requires_grad]
    words = made.get_input_embeddings().weight.numel()
    assert line.startswith(f"frozen: {sum(parameter.numel() for parameter in frozen):,} of ")
    assert f"word_embeddings {words * 2:,}" in line  # of the encoder and of the decoder of bert2bert


def test_tied_weights_are_frozen_under_either_name():
    made = model("decoder")
    freeze(made, ["lm_head"], train_variant=True)
    assert not made.get_input_embeddings().weight.requires_grad


def test_the_parameters_of_a_variant_are_not_frozen():
    made = model("decoder")
    example = {"input_ids": torch.tensor([[5, 6, 7]])}
    custom_attention.attach(made, ["gate"], example=example)
    freeze(made, ["*"], train_variant=True)
    trained = {id(parameter) for parameter in made.parameters() if parameter.requires_grad}
    assert trained == {id(one) for one in custom_attention.variant_parameters(made).values()} != set()
    with pytest.raises(UserError, match="nothing is left to train"):
        freeze(made, ["*"], train_variant=False)


@pytest.mark.parametrize(
    ("pattern", "answer"),
    [
        ("embedings", "perhaps embeddings was meant"),
        ("layer.7", "layer"),
        ("drop", "no parameter is in a module"),
    ],
)
def test_a_pattern_that_fits_nothing_is_refused(pattern, answer):
    with pytest.raises(UserError, match=r"^freeze: no parameter is in a module of this name") as refused:
        freeze(model("encoder"), ["embeddings", pattern], train_variant=True)
    assert f"(got {pattern})" in str(refused.value)
    assert answer in str(refused.value)


def test_all_frozen_is_refused():
    with pytest.raises(UserError, match="nothing is left to train"):
        freeze(model("encoder_decoder"), ["*"], train_variant=True)


def test_inspect_counts_it(capsys):
    assert main(["inspect", tiny("decoder"), *SETTINGS, "freeze=[h, wpe]"]) == 0
    assert "  frozen: " in capsys.readouterr().out
    assert config("decoder").freeze == ()
