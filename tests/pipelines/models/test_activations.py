"""Activations that are computed again instead of kept change no bit of what is learned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.cli.main import main
from tests.pipelines.tasks.writing import SIZES

CONFIGS = Path(__file__).parents[3] / "configs"
ON = "gradient_checkpointing=true"


def settings(family: str) -> list[str]:
    """Three steps of a tiny model with dropout and a gate that moves, cut into several micro-batches."""
    architecture, sizes = SIZES[family]
    listed = ", ".join(f"{name}: {value}" for name, value in sizes.items())
    return [
        f"model={{architecture: {architecture}, family: {family}, vocab_size: 300, config: {{{listed}}}}}",
        "attention=[gate]",
        "data.generated.train=24",
        "data.generated.validation=5",
        "data.generated.test=0",
        "batch_size=8",
        "max_tokens=60",
        "learning_rate=1e-2",
        "num_epochs=1",
        "device=cpu",
        "diagnostics_every_steps=null",
    ]


def learned(folder: Path, family: str, *more: str) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    file = CONFIGS / "task" / "translation-generated.yaml"
    assert main(["train", str(file), *settings(family), *more, "--out", str(folder)]) == 0
    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.parametrize("family", SIZES)
def test_the_weights_are_the_same_bits(family, tmp_path, monkeypatch):
    kept = learned(tmp_path / "kept", family)
    again, checkpoint = [], torch.utils.checkpoint.checkpoint

    def counting(run, *arguments, **options):
        again.append(run)
        return checkpoint(run, *arguments, **options)

    monkeypatch.setattr("transformers.modeling_utils.checkpoint", counting)
    came = learned(tmp_path / "again", family, ON)
    assert again
    assert came.keys() == kept.keys()
    for name, weights in kept.items():
        assert torch.equal(came[name], weights), name


def test_a_model_that_cannot_is_refused_in_a_sentence(tmp_path, capsys):
    names = ("task/forecasting-generated.yaml", "model/patchtst-small-scratch.yaml")
    files = [str(CONFIGS / name) for name in names]
    for command, *more in (["train", "--out", str(tmp_path / "run")], ["inspect"]):
        assert main([command, *files, ON, "device=cpu", *more]) == 2
        said = capsys.readouterr().err
        assert "gradient_checkpointing: PatchTSTForPrediction cannot compute its layers again" in said


def test_inspect_says_what_it_does_not_measure(capsys):
    file = CONFIGS / "task" / "translation-generated.yaml"
    assert main(["inspect", str(file), *settings("encoder_decoder"), ON]) == 0
    assert "gradient_checkpointing keeps less for the backward pass" in capsys.readouterr().out
