"""Load a finished run to predict with it: its task, its tokenizer and its trained model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from accelerate import Accelerator
from transformers import PreTrainedModel

from pipelines.config.load import RunConfig, run_from_dict
from pipelines.distributed.accelerator import build_accelerator
from pipelines.errors import UserError
from pipelines.models import saving
from pipelines.models.attention import variant_errors_as_user_errors
from pipelines.models.processor import load_processor
from pipelines.runs import intact
from pipelines.runs.finished import finished_manifest
from pipelines.runs.locate import find_run_folder
from pipelines.runs.manifest import Manifest
from pipelines.runs.prepare import set_up_libraries
from pipelines.storage import run_files
from pipelines.storage.run_folder import RunFolder
from pipelines.tasks.base import Task
from pipelines.tasks.load import load_task
from pipelines.train.speed.quicken import quicken


@dataclass(frozen=True)
class LoadedRun:
    """The parts of a run that predict; the model is on the accelerator's device, in evaluation mode."""

    config: RunConfig
    scores: Mapping[str, Mapping[str, float]]  # split -> metric -> what the run reported
    task: Task
    model: PreTrainedModel
    accelerator: Accelerator


def load_run_model(folder: str | Path) -> LoadedRun:
    """Load the trained model of a run folder, or of a run at "hub:ORG/NAME", with its task and processor.

    Raises:
        UserError: there is no finished run, its model was not kept, or one of its files has changed.
    """
    run = find_run_folder(folder)
    manifest = _verified_manifest(run)
    config = run_from_dict(manifest["config"]).model_copy(update={"processes": 1, "sharding": "none"})
    set_up_libraries(config)
    task = load_task(config)
    task.restore(manifest["task_state"])
    own: dict[str, object] = {"name": str(run.model), "tokenizer": None, "revision": None, "config": {}}
    stored = config.model_copy(update={"model": config.model.model_copy(update=own)})
    task.bind(load_processor(stored, task), config.model.family)
    with variant_errors_as_user_errors():
        model = saving.load(run.model)
    accelerator = build_accelerator(config)
    quicken(model, accelerator.device)
    return LoadedRun(config, manifest["scores"], task, model.to(accelerator.device), accelerator)


def _verified_manifest(run: RunFolder) -> Manifest:
    """Return the manifest of a finished run, its model files verified against their hashes."""
    manifest = cast(Manifest, finished_manifest(run))
    run_files.require(run.path, manifest, run_files.is_of_model)
    for name, what in intact.unlisted(run, manifest):
        raise UserError(str(run.path / name), what, accepted="remove it")
    for name, what in intact.contradictions(run, manifest):
        raise UserError(str(run.path / name), what, accepted=run_files.train_again(run.path))
    return manifest
