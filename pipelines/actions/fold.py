"""`attnlab fold`: a finished run as a plain checkpoint of transformers, its attention in the weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

import custom_attention
from custom_attention.dummy_inputs import made_up_example
from custom_attention.fold import bound_of
from custom_attention.modes import quiet
from custom_attention.proof import largest_difference, outputs
from pipelines.actions.evaluate import only
from pipelines.data import features as feature_cache
from pipelines.data.splits import load_splits
from pipelines.distributed.transfer import to_device
from pipelines.errors import RunFailed, UserError
from pipelines.models import saving
from pipelines.models.attention import variant_errors_as_user_errors
from pipelines.runs.load import LoadedRun, load_run_model
from pipelines.train.attention_log import MOST_FEATURES, first_batch

SPLIT = "validation"  # every run has one


def fold_command(run: str, out: str) -> None:
    """Write the model of the folder `run` to `out` as transformers itself would, with its tokenizer.

    The model is compared with what was trained twice: in memory, on a made-up batch and on examples of the
    run's own data; and once more as it is read back from the disk, before the folder gets its name.

    Raises:
        UserError: `out` is taken, there is no finished run, or a variant cannot be folded (the sentence
            says which and why). Nothing is written then.
        RunFailed: what was written is not what was trained.
    """
    target = Path(out)
    if target.exists():
        raise UserError(out, "is there already", accepted="choose another folder")
    finished = load_run_model(run)
    model, device = finished.model, finished.accelerator.device
    real, where = real_batch(finished)
    batches = [made_up_example(model), *(to_device(batch, device) for batch in real)]
    before = _answers(model, batches)
    said = _fold(finished, batches[1:])
    beside = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        model.save_pretrained(beside)
        saving.save_processor(finished.task.processor, beside)
        _compare(type(model).from_pretrained(beside).to(device), batches, before)
        beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    print(said)
    print(where)
    print(f"{type(model).__name__} with all that it reads by, without code of ours: {target}")


def real_batch(finished: LoadedRun) -> tuple[list[dict[str, torch.Tensor]], str]:
    """Examples of the run's own data as at most one batch, and what to say of it."""
    try:
        splits = load_splits(only(finished.config.data, SPLIT), finished.task, required=(SPLIT,))
    except UserError as error:
        return [], f"checked on a made-up batch alone, for want of the run's own data: {error.sentence()}"
    examples = getattr(splits, SPLIT)[:MOST_FEATURES]
    features = feature_cache.build(finished.task, examples, SPLIT, None, "")
    said = f"checked on a made-up batch and the first examples of {SPLIT}, in memory and as read back."
    return [first_batch(finished.task, features)], said


def _fold(finished: LoadedRun, batches: list[dict[str, torch.Tensor]]) -> str:
    if not custom_attention.is_attached(finished.model):
        return "its attention is stock already: written as it is."
    with variant_errors_as_user_errors():
        return custom_attention.fold(finished.model, *batches).sentence


@torch.no_grad()
def _answers(model: nn.Module, batches: list[dict[str, torch.Tensor]]) -> list[Mapping[str, torch.Tensor]]:
    with quiet(model):
        return [outputs(model, batch) for batch in batches]


def _compare(model: nn.Module, batches: list[dict[str, torch.Tensor]], before: list[Mapping]) -> None:
    for after, trained in zip(_answers(model, batches), before, strict=True):
        difference, largest = largest_difference(after, trained)
        if not difference <= bound_of(model.dtype, largest):
            what = f"the folder that was written answers {difference:.3g} away from the trained model"
            raise RunFailed(f"{what}; it was removed, and the run is as it was")
