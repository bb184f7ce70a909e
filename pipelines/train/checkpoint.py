"""Checkpoints of a run: used only if they match their seal, a list of sizes and hashes that is written last.

A checkpoint is a folder `step-<number>` with model and optimizer tensors (safetensors), `state.json`, and
`seal.json`. It is not written elsewhere and renamed, because several ranks may hold it open. It has no
Hugging Face config, so that nothing loads it as a model with stock attention by mistake.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from custom_attention.permissions import follow_umask
from pipelines.distributed.sharding import share_like, whole
from pipelines.errors import RunFailed
from pipelines.storage import atomic
from pipelines.storage.names import SEAL
from pipelines.storage.removal import CHECKPOINT_FILES, CHECKPOINTS_FILES, remove_files


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was verified against its seal."""

    folder: Path
    step: int
    state: Mapping[str, Any]

    def model_tensors(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "model.safetensors")

    def optimizer_tensors(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "optimizer.safetensors")


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: `<run>/checkpoints`.
        keep: how many of the newest to keep, at least 2, so that one is complete while the next is written.
        say: called with a sentence whenever a checkpoint is not used, and why.
    """

    def __init__(self, folder: Path, *, keep: int = 2, say: Callable[[str], None] = print) -> None:
        self.folder, self.keep, self.say = folder, max(2, keep), say

    # ---- writing
    def save(
        self,
        step: int,
        model_tensors: Mapping[str, torch.Tensor],
        optimizer_tensors: Mapping[str, torch.Tensor],
        state: Mapping[str, Any],
        protect: Iterable[int] = (),
    ) -> Checkpoint:
        """Write and seal a checkpoint, then remove old ones.

        Args:
            state: JSON-able; what is not a tensor.
            protect: steps whose checkpoints are never removed.

        Raises:
            RunFailed: the disk is full or cannot be written; earlier checkpoints are intact.
        """
        target = self.folder / _name(step)
        try:
            self._check_space(model_tensors, optimizer_tensors)
            _set_aside_folder(target)
            target.mkdir(parents=True)
            save_file(dict(model_tensors), target / "model.safetensors")
            save_file(dict(optimizer_tensors), target / "optimizer.safetensors")
            (target / "state.json").write_text(json.dumps(dict(state), sort_keys=True), encoding="utf-8")
            follow_umask(target)
            seal(target)
        except (OSError, SafetensorError) as error:
            remove_files(target, CHECKPOINT_FILES)
            newest = self.newest_valid()
            kept = f"the checkpoint of step {newest.step} is intact" if newest else "no earlier checkpoint"
            raise RunFailed(
                f"{target}: the checkpoint could not be written ({error}); {kept}. "
                "Free space on that disk and start the same command again."
            ) from error
        self._rotate({step, *protect})
        return Checkpoint(target, step, dict(state))

    def _check_space(self, *groups: Mapping[str, torch.Tensor]) -> None:
        needed = sum(tensor.numel() * tensor.element_size() for group in groups for tensor in group.values())
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < needed * 1.05:
            raise OSError(f"it needs {needed / 1e6:.2f} MB and {free / 1e6:.2f} MB are free")

    def _rotate(self, protect: set[int]) -> None:
        sealed = [folder for folder in self._folders() if (folder / SEAL).exists()]
        for folder in sealed[: -self.keep]:
            if _step_of(folder) not in protect:
                # The seal is removed first: a kill in between leaves an unsealed folder, never a damaged one.
                (folder / SEAL).unlink()
                remove_files(folder, CHECKPOINT_FILES)

    # ---- reading
    def newest_valid(self) -> Checkpoint | None:
        """Return the newest checkpoint that verifies; None without one.

        Damaged checkpoints are reported and moved aside, never deleted.

        Raises:
            RunFailed: there are sealed checkpoints but none verifies: starting over is the user's decision.
        """
        damaged: list[Path] = []
        for folder in reversed(self._folders()):
            problem = verify(folder)
            if problem is None:
                state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
                return Checkpoint(folder, _step_of(folder), state)
            was_sealed = _is_sealed(folder)
            aside = _set_aside_folder(folder)
            self.say(f"checkpoint {folder.name} is not used: {problem}; moved to {aside.name}")
            damaged += [aside] if was_sealed else []
        if damaged:
            raise RunFailed(
                f"{self.folder}: no checkpoint verifies any more (moved aside: "
                f"{', '.join(folder.name for folder in damaged)}). Use --fresh to train from the start."
            )
        return None

    def at(self, step: int) -> Checkpoint:
        """Return the checkpoint of one step, verified.

        Raises:
            RunFailed: it is missing or damaged.
        """
        folder = self.folder / _name(step)
        problem = verify(folder) if folder.exists() else "it is missing"
        if problem:
            raise RunFailed(f"{folder}: {problem}. Use --fresh to train from the start.")
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return Checkpoint(folder, step, state)

    def remove_all(self) -> None:
        """Remove every checkpoint, once the run is finished and its results are written; all else stays."""
        remove_files(self.folder, CHECKPOINTS_FILES)

    def _folders(self) -> list[Path]:
        found = [path for path in self.folder.glob("step-*") if path.name[5:].isdigit()]
        return sorted(found, key=_step_of)


def seal(folder: Path) -> None:
    """Sync every file of a folder to disk, then write the list of their sizes and hashes."""
    files = sorted(path for path in folder.iterdir() if path.name != SEAL)
    for path in files:
        atomic.sync(path)
    manifest = {path.name: [path.stat().st_size, atomic.sha256_of(path)] for path in files}
    atomic.write_json(folder / SEAL, manifest)
    atomic.sync(folder.parent)


def verify(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint folder, as a clause; None if every file is as it was sealed."""
    try:
        manifest = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return f"{SEAL} cannot be read" if _is_sealed(folder) else "it was not finished"
    if not _is_list_of_files(manifest):
        return f"{SEAL} is not a manifest"
    for name, (size, digest) in manifest.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
        if atomic.sha256_of(path) != digest:
            return f"{name} does not match its hash"
    return None


def _is_sealed(folder: Path) -> bool:
    """Return whether a checkpoint was finished, whatever has become of its seal since."""
    return os.path.lexists(folder / SEAL)


def _is_list_of_files(manifest: object) -> bool:
    """Return whether the content of a seal has a size and a hash for each file of a checkpoint."""
    return (
        isinstance(manifest, dict)
        and "state.json" in manifest
        and all(isinstance(entry, list) and len(entry) == 2 for entry in manifest.values())
    )


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _set_aside_folder(folder: Path) -> Path:
    """Rename a folder to the first free `<name>.invalid-<n>`, and return that path."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.invalid-{number}")).exists():
        number += 1
    if folder.exists():
        folder.rename(aside)
    return aside


# ---- tensors of a model and an optimizer, without pickle
def model_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and persistent buffers on the CPU, each storage once (tied weights share one).

    All ranks of a sharded model must call this together.
    """
    tensors: dict[str, torch.Tensor] = {}
    seen: set[tuple[int, torch.Size, tuple[int, ...]]] = set()
    for name, tensor in model.state_dict().items():
        local = getattr(tensor, "_local_tensor", tensor)
        identity = (local.data_ptr(), tensor.shape, tensor.stride())
        if local.numel() and identity in seen:
            continue
        seen.add(identity)
        tensors[name] = whole(tensor.detach()).to("cpu").contiguous()
    return tensors


def load_model_tensors(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load what `model_tensors` returned into a model built the same way.

    Raises:
        RunFailed: a tensor is missing, left over or of another shape.
    """
    expected = model_tensors(model)
    if expected.keys() != tensors.keys():
        odd = sorted(expected.keys() ^ tensors.keys())[:3]
        raise RunFailed(f"the checkpoint belongs to another model: {', '.join(odd)} do not match")
    try:
        own = model.state_dict()
        model.load_state_dict({n: share_like(own[n], t) for n, t in tensors.items()}, strict=False)
    except RuntimeError as error:  # shapes
        raise RunFailed(f"the checkpoint belongs to another model: {error}") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the optimizer's state as flat named tensors: `<parameter index>.<state name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": whole(torch.as_tensor(value).detach()).to("cpu").contiguous()
        for index, entries in state.items()
        for name, value in entries.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load what `optimizer_tensors` returned; groups and learning rates come from the configuration."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = share_like(parameters[int(index)], tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
