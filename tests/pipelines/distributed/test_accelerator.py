"""A run has what was asked for or does not start, and says what it leaves unused."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch

from pipelines.cli.main import main
from pipelines.distributed import accelerator
from pipelines.errors import UserError
from pipelines.runs.environment import environment
from pipelines.runs.prepare import set_up_libraries
from tests.pipelines.train.harness import config

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def got(processes=1, device=CPU):
    return SimpleNamespace(num_processes=processes, device=device)


@pytest.fixture
def launched(monkeypatch):
    """The variables of this process, as accelerate launch would have set them."""
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    return monkeypatch


def test_another_number_of_processes_is_refused():
    with pytest.raises(UserError, match="3 were asked for and 2 are running"):
        accelerator.require(config("bert", processes=3), got(2))


def test_another_device_is_refused():
    with pytest.raises(UserError, match="cuda was asked for, and this is cpu"):
        accelerator.require(config("bert", device="cuda"), got())


def test_a_cuda_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no CUDA device was found"):
        accelerator.uses_cpu(config("bert", device="cuda"))


def test_more_processes_than_devices_are_refused(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(UserError, match="3 were started on this machine, which has 2"):
        accelerator.uses_cpu(config("bert", device="auto", processes=3))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert not accelerator.uses_cpu(config("bert", device="auto", processes=2))


def test_accelerate_launch_that_was_asked_for_several_and_started_one_is_refused(launched):
    launched.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(UserError, match="asked for several processes and started one"):
        accelerator.require(config("bert"), got())
    launched.setenv("RANK", "0")
    accelerator.require(config("bert", processes=2), got(2))


def test_a_precision_of_the_launcher_that_is_not_the_runs_is_refused(launched):
    launched.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(UserError, match="asked for fp16 and the run for float32"):
        accelerator.require(config("bert"), got())
    launched.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    accelerator.require(config("bert", precision="bfloat16"), got())


@pytest.mark.parametrize("sharder", accelerator.SHARDERS)
def test_a_launcher_that_would_share_the_weights_is_refused(launched, sharder):
    launched.setenv(f"ACCELERATE_USE_{sharder}", "true")
    with pytest.raises(UserError, match=rf"{sharder}.*set sharding: fsdp2 in the run"):
        accelerator.require(config("bert"), got())


@pytest.mark.parametrize("word", ["fp16", "float16", "half"])
def test_float16_is_refused_with_the_reason(word):
    with pytest.raises(UserError, match=r"overflow in float16.*use bfloat16 or float32"):
        config("bert", precision=word)


def test_shares_of_one_process_are_refused_before_anything_starts(capsys):
    run = ["configs/task/ner-generated.yaml", "configs/model/bert-small-scratch.yaml", "sharding=fsdp2"]
    assert main(["validate", *run]) == 2
    assert "shares the weights among processes, and there is only one process" in capsys.readouterr().err
    assert main(["validate", *run, "processes=2"]) == 0


def test_the_first_line_says_what_is_unused(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    line = accelerator.start_line(config("bert", processes=2, threads=3), got(2))
    assert line == "2 processes on cpu, 3 threads each; 2 of 8 cores unused"
    assert accelerator.start_line(config("bert", threads=8), got()).endswith("no core unused")
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    assert accelerator.start_line(config("bert", device="cuda"), got(1, GPU)) == (
        "1 process on cuda; 3 more of this kind unused"
    )


@pytest.mark.parametrize(
    ("features", "slow"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, False),
        ({"architecture": "arm64"}, False),
    ],
)
def test_the_first_line_says_where_bfloat16_is_slow(features, slow, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    said = "; this CPU has no instructions for bfloat16"
    assert (said in accelerator.start_line(config("bert", precision="bfloat16"), got())) == slow
    assert said not in accelerator.start_line(config("bert"), got())


def test_deterministic_kernels_are_taken_on_a_gpu_and_a_cpu_says_that_it_has_no_others(monkeypatch):
    asked = config("bert", deterministic=True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # put back in the end
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    accelerator.make_deterministic(asked, CPU)
    assert not torch.are_deterministic_algorithms_enabled()
    assert "deterministic, as a CPU always is" in accelerator.start_line(asked, got())
    benchmark = torch.backends.cudnn.benchmark
    try:
        accelerator.make_deterministic(asked, GPU)
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = benchmark


def test_a_run_is_recorded_as_deterministic_where_its_bits_are():
    asked, not_asked = (config("bert", deterministic=choice).to_dict() for choice in (True, False))
    assert [environment(c, "cuda:0")["deterministic"] for c in (asked, not_asked)] == [True, False]
    assert environment(not_asked, "cpu")["deterministic"]


def test_threads_are_those_that_were_asked_for():
    try:
        set_up_libraries(config("bert", threads=3))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
