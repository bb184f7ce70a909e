"""`attnlab fold`: write a finished run as a plain transformers checkpoint, its variant in the weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import PreTrainedModel

import custom_attention
from custom_attention.dummy_inputs import made_up_example
from custom_attention.fold import bound_of
from custom_attention.modes import quiet
from custom_attention.permissions import follow_umask
from custom_attention.proof import largest_difference, outputs
from pipelines.actions.evaluate import one_split
from pipelines.data import features as feature_cache
from pipelines.data.splits import load_splits
from pipelines.distributed.transfer import to_device
from pipelines.errors import RunFailed, UserError
from pipelines.models import saving
from pipelines.models.attention import variant_errors_as_user_errors
from pipelines.runs.load import LoadedRun, load_run_model
from pipelines.shown import printable
from pipelines.storage import atomic
from pipelines.storage.temporary import folder_beside
from pipelines.train.attention_log import MOST_FEATURES, first_batch

SPLIT = "validation"  # every run has one


def fold_command(run: str, out: str) -> None:
    """Write the model of a run to `out` as transformers itself would, with its tokenizer.

    Its outputs are compared with those of the trained model twice: in memory, and after it was read back
    from disk; on a made-up batch and on examples of the run's own data.

    Raises:
        UserError: `out` exists, there is no finished run, or a variant cannot be folded. Nothing is written.
        RunFailed: the written model differs from the trained one, and was deleted; or the disk is full.
    """
    target = Path(out)
    if os.path.lexists(target):
        raise UserError(out, "exists already", accepted="choose another folder")
    finished = load_run_model(run)
    model, device = finished.model, finished.accelerator.device
    assert isinstance(model, PreTrainedModel)
    real, checked = real_batch(finished)
    batches = [made_up_example(model), *(to_device(batch, device) for batch in real)]
    before = _outputs(model, batches)
    folded = _fold(finished, batches[1:])
    with folder_beside(target) as beside:
        try:
            model.save_pretrained(beside)
            saving.save_processor(finished.task.processor, beside)
        except Exception as error:  # those of safetensors are no OSError
            if not atomic.is_disk_full(error):
                raise
            raise RunFailed(f"{target}: the disk is full, so nothing was written") from error
        follow_umask(beside)
        _compare(type(model).from_pretrained(beside).to(device), batches, before)
        beside.rename(target)
    what = f"{type(model).__name__} with its tokenizer or processor, which needs no code of attnlab"
    print(printable(f"{folded}\n{checked}\n{what}: {target}"))


def real_batch(finished: LoadedRun) -> tuple[list[dict[str, torch.Tensor]], str]:
    """Return one batch of the run's own data, none if it cannot be read, and a sentence on the check."""
    try:
        splits = load_splits(one_split(finished.config.data, SPLIT), finished.task, required=(SPLIT,))
    except UserError as error:
        sentence = f"checked on a made-up batch only; the run's data cannot be read: {error.sentence()}"
        return [], sentence
    examples = getattr(splits, SPLIT)[:MOST_FEATURES]
    features = feature_cache.build(finished.task, examples, SPLIT, None, "")
    sentence = f"checked on a made-up batch and the first examples of {SPLIT}, before and after saving."
    return [first_batch(finished.task, features)], sentence


def _fold(finished: LoadedRun, batches: list[dict[str, torch.Tensor]]) -> str:
    if not custom_attention.is_attached(finished.model):
        return "its attention is stock: written unchanged."
    with variant_errors_as_user_errors():
        return custom_attention.fold(finished.model, *batches).sentence


@torch.no_grad()
def _outputs(
    model: PreTrainedModel, batches: list[dict[str, torch.Tensor]]
) -> list[Mapping[str, torch.Tensor]]:
    with quiet(model):
        return [outputs(model, batch) for batch in batches]


def _compare(
    model: PreTrainedModel, batches: list[dict[str, torch.Tensor]], before: list[Mapping[str, torch.Tensor]]
) -> None:
    for after, trained in zip(_outputs(model, batches), before, strict=True):
        difference, largest = largest_difference(after, trained)
        if not difference <= bound_of(model.dtype, largest):
            what = f"the outputs of the written model differ by {difference:.3g} from the trained one"
            raise RunFailed(f"{what}; it was deleted, and the run is unchanged")
