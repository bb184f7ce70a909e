"""What a run uses of its machine: built here alone, refused where it is not what was asked for, and said.

A launcher can start fewer processes than it was told, and accelerate shards on accelerators alone and says
nothing elsewhere (seen with accelerate 1.15). So a run compares what it got with what was asked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from accelerate import Accelerator

from pipelines.config.load import RunConfig
from pipelines.errors import UserError

PRECISIONS = {"float32": "no", "bfloat16": "bf16"}  # in accelerate's words
SHARDERS = ("FSDP", "DEEPSPEED", "MEGATRON_LM")  # what accelerate launch may ask for, by its variables


def build_accelerator(config: RunConfig) -> Accelerator:
    """The accelerator of a run, refused where it is not what was asked for.

    Raises:
        UserError: see `uses_cpu` and `require`.
    """
    # Told to find its own way, accelerate starts no second process on a machine without a GPU.
    accelerator = Accelerator(cpu=uses_cpu(config), mixed_precision=PRECISIONS[config.precision])
    require(config, accelerator)
    make_deterministic(config, accelerator.device)
    return accelerator


def expects_cpu(config: RunConfig) -> bool:
    """Whether the run would compute on the CPU here, whatever else stands in its way."""
    return config.device == "cpu" or (config.device == "auto" and not torch.accelerator.is_available())


def uses_cpu(config: RunConfig) -> bool:
    """Whether the run computes on the CPU: asked for, or because there is no accelerator.

    Raises:
        UserError: an accelerator was asked for that is not here, or one for each process of this machine.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device", "no CUDA device was found", config.device, "accepted here: cpu, auto")
    if expects_cpu(config):
        return True
    here, there = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.accelerator.device_count()
    if here > there:
        what = f"{here} were started on this machine, which has {there} of its kind of device"
        raise UserError("processes", what, accepted=f"processes={there} or fewer, or device=cpu")
    return False


def require(config: RunConfig, accelerator: Accelerator) -> None:
    """Refuse to run as anything else than what was asked for.

    Raises:
        UserError: another number of processes, another device or another precision than the run says, or
            a launcher that asks for what the run does not.
    """
    if accelerator.num_processes != config.processes:
        raise UserError(
            "processes",
            f"{config.processes} were asked for and {accelerator.num_processes} are running",
            accepted="start with `attnlab train ... --processes N`, or torchrun --nproc-per-node N",
        )
    if config.device != "auto" and accelerator.device.type != config.device:
        raise UserError("device", f"{config.device} was asked for, and this is {accelerator.device.type}")
    _heed_launcher(config, os.environ)


def _heed_launcher(config: RunConfig, environment: Mapping[str, str]) -> None:
    """accelerate launch says in variables what it was asked for, and does not always do it."""
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
    """Take kernels that give the same bits each time, or none, where the run asks; a CPU has no others."""
    if config.deterministic and device.type != "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read with the first product of matrices
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def has_bfloat16_units() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 itself; True where PyTorch does not know its kind."""
    features = torch.cpu.get_capabilities()
    return features["architecture"] != "x86_64" or features["avx512_bf16"] or features["amx_bf16"]


def start_line(config: RunConfig, accelerator: Accelerator) -> str:
    """What the run uses of this machine, and what it leaves unused."""
    running = f"{config.processes} process{'es' if config.processes > 1 else ''} on {accelerator.device.type}"
    if accelerator.device.type == "cpu":
        cores = os.cpu_count() or 1
        used = config.threads * config.processes
        unused = f"{cores - used} of {cores} cores unused" if used < cores else "no core unused"
        threads = f"{config.threads} thread{'s' if config.threads > 1 else ''} each"
        said = "; deterministic, as a CPU always is" if config.deterministic else ""
        if config.precision == "bfloat16" and not has_bfloat16_units():
            said += "; this CPU has no units for bfloat16: float32 is many times faster"
        return f"{running}, {threads}; {unused}{said}"
    left = torch.accelerator.device_count() - config.processes
    unused = f"{left} more of its kind unused" if left > 0 else "none unused"
    return f"{running}; {unused}{'; deterministic kernels' if config.deterministic else ''}"
