"""Build the accelerator of a run, and refuse one that is not what the run configures.

A launcher can start fewer processes than requested, and accelerate silently does not shard on a CPU (seen
with accelerate 1.15). So a run compares what it got with what it configures.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from accelerate import Accelerator

from pipelines.config.load import RunConfig
from pipelines.errors import UserError

PRECISIONS = {"float32": "no", "bfloat16": "bf16"}  # accelerate's names
# Ways of sharding that accelerate launch can request, as its environment variables name them.
SHARDERS = ("FSDP", "DEEPSPEED", "MEGATRON_LM")


def build_accelerator(config: RunConfig) -> Accelerator:
    """Build the accelerator of a run.

    Raises:
        UserError: it is not what the run configures; see `uses_cpu` and `require`.
    """
    # Without `cpu=True`, accelerate starts no second process on a machine without a GPU.
    accelerator = Accelerator(cpu=uses_cpu(config), mixed_precision=PRECISIONS[config.precision])
    require(config, accelerator)
    make_deterministic(config, accelerator.device)
    return accelerator


def expects_cpu(config: RunConfig) -> bool:
    """Whether the run would compute on the CPU of this machine; nothing is refused."""
    return config.device == "cpu" or (config.device == "auto" and not torch.accelerator.is_available())


def uses_cpu(config: RunConfig) -> bool:
    """Whether the run computes on the CPU, as configured or because there is no accelerator.

    Raises:
        UserError: the machine has no such accelerator, or fewer than processes were started on it.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device", "no CUDA device was found", config.device, "accepted here: cpu, auto")
    if expects_cpu(config):
        return True
    processes, devices = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.accelerator.device_count()
    if processes > devices:
        what = f"{processes} were started on this machine, which has {devices} devices of this kind"
        raise UserError("processes", what, accepted=f"processes={devices} or fewer, or device=cpu")
    return False


def require(config: RunConfig, accelerator: Accelerator) -> None:
    """Refuse an accelerator that differs from the configuration of the run.

    Raises:
        UserError: the number of processes, the device or the precision differs, or the launcher was started
            with settings that the run does not have.
    """
    if accelerator.num_processes != config.processes:
        raise UserError(
            "processes",
            f"{config.processes} were asked for and {accelerator.num_processes} are running",
            accepted="start with `attnlab train ... --processes N`, or torchrun --nproc-per-node N",
        )
    if config.device != "auto" and accelerator.device.type != config.device:
        raise UserError("device", f"{config.device} was asked for, and this is {accelerator.device.type}")
    _require_same_launcher(config, os.environ)


def _require_same_launcher(config: RunConfig, environment: Mapping[str, str]) -> None:
    """Refuse accelerate launch with other settings; it stores them in variables, but may not use them."""
    where, precision = "accelerate launch", environment.get("ACCELERATE_MIXED_PRECISION")
    if precision is None:  # another launcher, or none
        return
    if "MASTER_ADDR" in environment and "RANK" not in environment:
        what = "was asked for several processes and started one (with --cpu it does)"
        raise UserError(where, what, accepted="take configs/launch/cpu.yaml, or attnlab train --processes N")
    if precision not in ("no", PRECISIONS[config.precision]):
        what = f"was asked for {precision} and the run for {config.precision}"
        raise UserError(where, what, accepted="leave mixed_precision at no: the run's own precision decides")
    for sharder in SHARDERS:
        if environment.get(f"ACCELERATE_USE_{sharder}", "false").lower() in ("true", "1"):
            what = f"was asked for {sharder}, which no run takes from a launcher"
            raise UserError(where, what, accepted="set sharding: fsdp2 in the run, and leave it out there")


def make_deterministic(config: RunConfig, device: torch.device) -> None:
    """Use only kernels that give the same bits each time, if configured; on a CPU all of them do."""
    if config.deterministic and device.type != "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first matrix product
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def has_bfloat16_units() -> bool:
    """Whether this CPU has instructions for bfloat16 matrices; True for a kind that PyTorch does not know."""
    features = torch.cpu.get_capabilities()
    return features["architecture"] != "x86_64" or features["avx512_bf16"] or features["amx_bf16"]


def start_line(config: RunConfig, accelerator: Accelerator) -> str:
    """Describe what the run uses of this machine, and what stays unused."""
    running = f"{config.processes} process{'es' if config.processes > 1 else ''} on {accelerator.device.type}"
    if accelerator.device.type == "cpu":
        cores = os.cpu_count() or 1
        used = config.threads * config.processes
        unused = f"{cores - used} of {cores} cores unused" if used < cores else "no core unused"
        threads = f"{config.threads} thread{'s' if config.threads > 1 else ''} each"
        notes = "; deterministic, as a CPU always is" if config.deterministic else ""
        if config.precision == "bfloat16" and not has_bfloat16_units():
            notes += "; this CPU has no instructions for bfloat16: float32 is many times faster"
        return f"{running}, {threads}; {unused}{notes}"
    left = torch.accelerator.device_count() - config.processes
    unused = f"{left} more of this kind unused" if left > 0 else "none unused"
    return f"{running}; {unused}{'; deterministic kernels' if config.deterministic else ''}"
