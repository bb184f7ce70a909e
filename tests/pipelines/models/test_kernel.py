"""`kernel:` in a run: refused where it cannot train, compared with the model's own kernel where it can."""

from __future__ import annotations

import pytest
import torch

import custom_attention
from custom_attention.kernels import flash
from pipelines.cli.main import main
from pipelines.config.load import run_from_dict
from pipelines.distributed.accelerator import build_accelerator
from pipelines.errors import UserError
from pipelines.models import kernel
from pipelines.runs import identity
from tests.custom_attention.test_kernels import by_loops
from tests.pipelines.train.harness import REAL, ToyTagging, config, example_batch, rows, tiny_model

PRESETS = ["configs/task/ner-generated.yaml", "configs/model/bert-small-scratch.yaml"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="for a machine without a GPU")
@pytest.mark.parametrize("name", ["flex", "flash"])
def test_a_run_on_a_cpu_refuses_another_kernel_before_it_prepares_anything(name, tmp_path, capsys):
    asked = [*PRESETS, f"kernel={name}", "precision=bfloat16", "--out", str(tmp_path / name)]
    assert main(["train", *asked]) == 2
    said = capsys.readouterr().err
    assert f"kernel: {name} attention trains on a GPU only, and none was found" in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["kernel=flex", "device=cpu"], "trains on a GPU only, and device is cpu"),
        (["kernel=flash"], "computes in 16 bits, and precision is float32"),
        (["kernel=cudnn"], "flex"),
    ],
)
def test_settings_that_exclude_a_kernel_are_refused_by_validate(settings, reason, capsys):
    assert main(["validate", *PRESETS, *settings]) == 2
    assert reason in capsys.readouterr().err
    assert main(["validate", *PRESETS, "kernel=flash", "precision=bfloat16"]) == 0


def test_the_kernel_is_a_part_of_the_identity_of_a_run():
    hashes = {
        identity.run_hash(identity.describe(run_from_dict({**REAL, "kernel": name})))
        for name in (None, "flex", "flash")
    }
    assert len(hashes) == 3


def attached(dropout, spec=("gate",)):
    model = tiny_model("bert", dropout)
    custom_attention.attach(model, list(spec), example=example_batch())
    task = ToyTagging()
    batch = task.collate(task.prepare(rows(5, 1)))
    return model, task, batch, build_accelerator(config("bert"))


def test_the_kernel_is_compared_with_the_models_own(monkeypatch):
    monkeypatch.setattr(flash, "_flash", by_loops)
    model, *others = attached(0.0)
    said = kernel.use_kernel("flash", model, *others)
    assert said.startswith("attention by flash: largest difference to the model's own kernel ")
    assert 0 < float(said.split()[-1]) < 1e-5
    assert model.training is tiny_model("bert", 0.0).training


def test_a_kernel_that_computes_something_else_is_refused(monkeypatch):
    monkeypatch.setattr(flash, "_flash", lambda *states: 1.1 * by_loops(*states))
    model, *others = attached(0.0)
    with pytest.raises(UserError, match="its outputs differ from those of the model's own kernel by"):
        kernel.use_kernel("flash", model, *others)


def test_what_only_training_asks_of_a_kernel_is_refused_before_the_first_step(monkeypatch):
    monkeypatch.setattr(flash, "_flash", by_loops)
    model, *others = attached(0.25)
    with pytest.raises(UserError, match=r"has no dropout.*0\.25"):
        kernel.use_kernel("flash", model, *others)
    model, *others = attached(0.0)
    with pytest.raises(UserError, match="no backward pass on a CPU"):
        kernel.use_kernel("flex", model, *others)
