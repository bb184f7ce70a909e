"""A step reads no number back from the device, so that Python never waits for it.

The device is torch's `meta`: it computes shapes and holds no values, so each read of one is an error.
"""

from __future__ import annotations

import sys

import pytest
import torch
import transformers.masking_utils
import yaml
from accelerate import Accelerator

from pipelines.config.load import load_run
from pipelines.distributed import accelerator, transfer
from pipelines.distributed.stop import StopRequest
from pipelines.runs import prepare
from pipelines.storage.run_folder import RunFolder
from pipelines.train import batches
from pipelines.train.progress import Reporter
from pipelines.train.speed import unpadding
from tests.pipelines.models.test_families import FOLDER, OTHER_INPUTS, TASKS

META = torch.device("meta")
JOBS = [  # model file, task, whether its layers leave padding out
    ("bert", "ner", True),
    ("bert", "question_answering", True),
    ("bert", "text_classification", True),
    ("bert", "summarization", True),
    ("gpt2", "language_modelling", True),
    ("gpt2", "generative_question_answering", True),
    ("t5", "translation", True),
    ("t5", "ner", True),
    ("llama", "language_modelling", True),
    ("vit", "image_classification", False),
    ("patchtst", "forecasting", False),
]


@pytest.fixture
def on_meta(monkeypatch):
    """Runs compute on `meta`; what cannot be done there and reads nothing is left out."""
    monkeypatch.setattr(Accelerator, "device", META)
    monkeypatch.setattr(accelerator, "expects_cpu", lambda config: True)  # so accelerate asks for no GPU
    monkeypatch.setattr(sys.modules["torch.optim.adam"], "_device_dtype_check_for_fused", lambda *_: None)
    # Between the phases before the first step, ranks agree on whether to stop: that reads a number.
    monkeypatch.setattr(prepare, "agreed_to_stop", lambda *_: False)
    # transformers itself looks once in each forward whether its mask hides anything.
    for name in ("_ignore_bidirectional_mask_sdpa", "_ignore_causal_mask_sdpa"):
        monkeypatch.setattr(transformers.masking_utils, name, lambda *_, **__: False)


def skipping_padding(model, task, batch):
    """`unpadding.unpadding_for`, which compares values, without that."""
    layers = unpadding.layers_of(model)
    return layers and unpadding.Unpadding(model, layers)


def ready(folder, model: str, task: str):
    """A run of a model file with a gate, before its first step."""
    _, options, sizes = OTHER_INPUTS.get(model, (task, TASKS.get(task), {}))
    settings = {
        "task": {"name": task, **options},
        "data": {"generated": {"name": task.removeprefix("generative_"), "train": 47, "validation": 41}},
        "model": {"config": sizes},
        "attention": ["gate"],
        "batch_size": 7,
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    config = load_run([str(FOLDER / f"{model}-small-scratch.yaml"), str(folder / "run.yaml")])
    silent = Reporter(enabled=False)
    run = prepare.prepare(config, folder / "cache", RunFolder(folder / "run"), StopRequest(), silent)
    return run.training


@pytest.mark.parametrize(("model", "task", "skips_padding"), JOBS)
def test_a_step_reads_nothing_back(model, task, skips_padding, on_meta, monkeypatch, tmp_path):
    if skips_padding:
        monkeypatch.setattr(unpadding, "unpadding_for", skipping_padding)
    training = ready(tmp_path, model, task)
    assert (training.engine.unpadding is not None) == skips_padding
    training.engine.model.train()
    taken = [training.engine.take_step(training.plan.step(number)) for number in range(2)]
    assert all(step.numbers.device == META for step in taken)
    with pytest.raises((RuntimeError, NotImplementedError)):
        taken[0].numbers.tolist()


class OnItsWay(torch.Tensor):
    """A tensor that notes how it is sent."""

    @staticmethod
    def __new__(cls, log):
        made = torch.ones(3).as_subclass(cls)
        made.log = log
        return made

    def pin_memory(self):
        self.log.append("pinned")
        return self

    def to(self, device, non_blocking):
        self.log.append((device.type, non_blocking))
        return self


@pytest.mark.parametrize(("device", "way"), [("cpu", []), ("cuda", ["pinned"])])
def test_to_a_gpu_it_goes_through_page_locked_memory(device, way):
    log = []
    transfer.to_device({"input_ids": OnItsWay(log), "num_bytes": [3]}, torch.device(device))
    assert log == [*way, (device, True)]


def test_a_gpu_gets_fewer_larger_batches():
    assert batches.overhead_of_batch(200, on_cpu=True) == 200
    assert batches.overhead_of_batch(200, on_cpu=False) == batches.GPU_OVERHEAD
    assert batches.overhead_of_batch(1 << 14, on_cpu=False) == 1 << 14
