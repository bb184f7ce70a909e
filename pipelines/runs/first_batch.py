"""Look at the first batch of a run before it trains, and refuse what could only teach nonsense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from pipelines.config.load import RunConfig
from pipelines.data.features import Prepared
from pipelines.errors import UserError
from pipelines.shown import printable
from pipelines.tasks.base import Batch, Feature, Task
from pipelines.tasks.shared.token_loss import IGNORED
from pipelines.train.batches import plan_of

MOST_UNKNOWN = 0.3  # share of the tokens of the inputs
SECOND_LOOK = 256  # inputs of train that must agree before a batch of rare words is refused


def first_features(config: RunConfig, train: Prepared) -> list[Feature]:
    """Return the features of the first optimizer step."""
    plan = plan_of(config, train.features, len(train.examples), num_ranks=1, on_cpu=True, skips_padding=False)
    return [train.features[index] for batch in plan.step(0).micro_batches[0] for index in batch]


def require_learnable(
    task: Task,
    model: PreTrainedModel,
    train: Prepared,
    first: Sequence[Feature],
    *,
    has_own_tokenizer: bool = False,
) -> None:
    """Refuse a first batch that the model cannot learn from.

    Args:
        has_own_tokenizer: the tokenizer was trained on the data, so unknown tokens are a matter of its size.

    Raises:
        UserError: no target is left in train, the inputs are mostly unknown tokens, or ids are outside of the
            model's embeddings or of its head.
    """
    batch = task.collate(first)
    _require_targets(train, first, batch)
    if task.reads == "text":
        if not has_own_tokenizer:
            _require_known_tokens(task, train, first)
        _require_ids_inside(model, batch)


def shown(task: Task, feature: Feature) -> Iterator[str]:
    """Yield the lines that show an input of the model to a reader."""
    yield f"[{printable(feature['example_id'], keep='')}] {task.feature_len(feature)} tokens"
    yield from (printable(line, keep="") for line in task.show(feature).split("\n"))


def _require_targets(train: Prepared, first: Sequence[Feature], batch: Batch) -> None:
    if not train.features.num_targets.sum():
        found = train.features.counts.items()
        counted = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in found if count)
        what = "every target is ignored, so nothing can be learned"
        fix = "look at the inputs with attnlab inspect; allow longer ones, or repair the data"
        raise UserError("data.train", what, counted or None, fix)
    num_targets, labels = sum(feature["num_targets"] for feature in first), _ids(batch)
    if num_targets and labels is not None and not (labels != IGNORED).any():
        what = f"all labels of the first batch are {IGNORED}, which the loss ignores"
        fix = "a task counts a target where it has a label"
        raise UserError("data.train", what, f"{num_targets:,} targets counted", fix)


def _require_known_tokens(task: Task, train: Prepared, first: Sequence[Feature]) -> None:
    share = unknown_share(task, first)
    if share > MOST_UNKNOWN:
        share = unknown_share(task, [*first, *train.features[:SECOND_LOOK]])
    if share > MOST_UNKNOWN:
        what = f"{100 * share:.0f} % of the tokens of the inputs are unknown to the tokenizer"
        fix = f"at most {100 * MOST_UNKNOWN:.0f} %: name a model, or model.tokenizer, of the data's language"
        raise UserError("model.tokenizer", what, task.processor.unk_token, fix)


def unknown_share(task: Task, features: Sequence[Feature]) -> float:
    """Return the share of the unknown token among the tokens of inputs, special ones left out."""
    tokenizer = task.processor
    unknown, special = tokenizer.unk_token_id, set(tokenizer.all_special_ids)
    ends = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    if unknown is None or unknown in ends:  # of bytes, none is unknown: GPT-2 only names its end so
        return 0.0
    ids = [token for feature in features for token in feature["input_ids"]]
    num_unknown = ids.count(unknown)
    num_known = sum(token not in special for token in ids)
    return num_unknown / max(1, num_unknown + num_known)


def _require_ids_inside(model: PreTrainedModel, batch: Batch) -> None:
    embeddings: Any = model.get_input_embeddings()
    size, most = embeddings.weight.shape[0], int(batch["input_ids"].max())
    if most >= size:
        what = f"the tokenizer gives the id {most:,}, and the model has {size:,} embeddings"
        raise UserError("model.tokenizer", what, accepted="name the tokenizer that belongs to the model")
    labels, output = _ids(batch), cast(Any, model.get_output_embeddings())
    if labels is None:
        return
    size = int(model.config.num_labels or 0) if output is None else output.weight.shape[0]
    outside = labels[(labels != IGNORED) & ((labels < 0) | (labels >= size))]
    if len(outside):
        what = f"the first batch has the label {int(outside[0])}, and the model's head has {size:,} outputs"
        fix = f"0 to {size - 1:,}, or {IGNORED} for no label: name every label in task.labels"
        raise UserError("data.train", what, accepted=fix)


def _ids(batch: Batch) -> torch.Tensor | None:
    """Return the labels of a batch if they are numbers of classes or tokens."""
    labels = batch.get("labels")
    return labels if isinstance(labels, torch.Tensor) and not labels.is_floating_point() else None
