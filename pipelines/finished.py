"""A finished run, ready to predict again: its task, its tokenizer and its model with the trained weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from pipelines import durable
from pipelines.checkpoint import load_model_tensors
from pipelines.config import RunConfig, run_from_dict
from pipelines.errors import UserError
from pipelines.model import build_model, load_processor
from pipelines.results import RunFolder
from pipelines.run import attach, load_task, set_up_libraries, variant_errors_as_user_errors
from pipelines.task import Task
from pipelines.train import build_accelerator

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class FinishedRun:
    """The parts of a run whose training is over; the model stands on the accelerator's device."""

    config: RunConfig
    manifest: dict[str, Any]
    task: Task
    model: torch.nn.Module
    accelerator: Accelerator


def load_run_model(folder: str | Path) -> FinishedRun:
    """Rebuild the model of a run folder: the stock model, its attention attached, the trained weights.

    Raises:
        UserError: no finished run stands there, its model was not kept, or a file of it has changed.
    """
    run = RunFolder(Path(folder))
    manifest = _finished(run)
    config = run_from_dict(manifest["config"]).model_copy(update={"processes": 1, "sharding": "none"})
    set_up_libraries(config)
    task = load_task(config)
    task.restore(manifest["task_state"])
    own_tokenizer = config.model.model_copy(update={"tokenizer": str(run.model), "revision": None})
    task.bind(
        load_processor(config.model_copy(update={"model": own_tokenizer}), iter(())), config.model.family
    )
    model = build_model(config, task.head, task.processor, task.model_options())
    with variant_errors_as_user_errors():
        attach(config, model)
    load_model_tensors(model, load_file(run.model / WEIGHTS))
    accelerator = build_accelerator(config)
    return FinishedRun(config, manifest, task, model.to(accelerator.device).eval(), accelerator)


def _finished(run: RunFolder) -> dict[str, Any]:
    """The manifest of a run that has a whole model."""
    where, manifest = str(run.path), run.manifest()
    if manifest is None:
        exists = run.path.is_dir()
        what = "this run is not finished: it has no manifest.json" if exists else "there is no such folder"
        raise UserError(where, what, accepted="name the folder of a finished run (attnlab ls runs)")
    if manifest["status"] != "finished":
        raise UserError(where, f"this run has no model to predict with: it {manifest['status']}")
    if not (run.model / WEIGHTS).exists():
        fix = "train it on its own with attnlab train, or keep it with keep: model in the ablation"
        raise UserError(where, "the model of this run was not kept", accepted=fix)
    for name, digest in manifest["files"].items():
        file = run.path / name
        if name.startswith("model/") and (not file.exists() or durable.sha256_of(file) != digest):
            what = "is missing" if not file.exists() else "is not the file that the run wrote"
            raise UserError(str(file), what, accepted="train again with --fresh")
    return manifest
