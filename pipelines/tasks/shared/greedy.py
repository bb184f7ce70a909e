"""Greedy search in which a text that has ended leaves the batch: the tokens are those of transformers' loop.

That one computes every text of a batch up to the end of the longest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput

from pipelines.tasks.shared.roomy_cache import make_room

MOST_KEPT = 0.75  # share of rows that go on; with more, copying what is kept of them costs more than it saves
# Inputs of a decoding step with a row for each text.
BY_ROW = ("attention_mask", "decoder_attention_mask", "position_ids", "token_type_ids")
OTHERS = ("encoder_outputs", "past_key_values", "use_cache", "logits_to_keep")


def write_greedily(
    model: Any,
    input_ids: Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    **inputs: Any,
) -> Tensor:
    """Return the ids of every text with its beginning `input_ids`, padded on the right.

    For `generate(custom_generate=...)`, which prepares the arguments.
    """
    is_pair, filler = model.config.is_encoder_decoder, generation_config._pad_token_tensor
    may_leave = _may_leave(logits_processor, inputs)
    ids, places = input_ids, torch.arange(len(input_ids), device=input_ids.device)
    ended: list[tuple[Tensor, Tensor]] = []  # places in the batch and ids of texts that left it
    goes_on = torch.ones_like(places, dtype=torch.bool)
    make_room(inputs.get("past_key_values"))
    output = model._prefill(ids, generation_config, inputs)
    while True:
        inputs = model._update_model_kwargs_for_generation(output, inputs, is_encoder_decoder=is_pair)
        scores = logits_processor(ids, output.logits[:, -1].to(torch.float32, copy=True))
        tokens = torch.where(goes_on, scores.argmax(-1), filler)
        ids = torch.cat([ids, tokens[:, None]], dim=1)
        goes_on &= ~stopping_criteria(ids, None)
        num_left = int(goes_on.sum())
        if not num_left:
            ended.append((places, ids))
            return _joined(ended, filler)
        if may_leave and num_left <= MOST_KEPT * len(ids):
            ended.append((places[~goes_on], ids[~goes_on]))
            kept = goes_on.nonzero().flatten()
            ids, places, goes_on = ids[kept], places[kept], goes_on[kept]
            inputs = _rows(inputs, kept)
        following = 1 if inputs["use_cache"] else None
        step = model.prepare_inputs_for_generation(ids, next_sequence_length=following, **inputs)
        output = model(**step, return_dict=True)


def _may_leave(logits_processor: Any, inputs: dict[str, Any]) -> bool:
    """Return whether rows can be taken out of everything that a step reads."""
    # Rules about the source, such as encoder_repetition_penalty, know something of each row of the batch.
    knows_rows = any(
        type(rule).__name__.startswith("Encoder")
        or isinstance(getattr(rule, "prompt_ignore_length", None), Tensor)
        for rule in logits_processor
    )
    known = {name for name, value in inputs.items() if value is not None} <= {*BY_ROW, *OTHERS}
    return known and not knows_rows and isinstance(inputs.get("past_key_values"), Cache | None)


def _rows(inputs: dict[str, Any], kept: Tensor) -> dict[str, Any]:
    """Return the inputs of a step for some rows of the batch; the cache is cut in place."""
    given = {name: inputs[name] for name in BY_ROW if inputs.get(name) is not None}
    cut = {name: rows if len(rows) == 1 else rows[kept] for name, rows in given.items()}
    if inputs.get("encoder_outputs") is not None:
        cut["encoder_outputs"] = BaseModelOutput(inputs["encoder_outputs"].last_hidden_state[kept])
    if inputs.get("past_key_values") is not None:
        inputs["past_key_values"].batch_select_indices(kept)
    return inputs | cut


def _joined(ended: list[tuple[Tensor, Tensor]], filler: Tensor) -> Tensor:
    """Return all texts in their places, padded on the right."""
    longest = max(ids.shape[1] for _, ids in ended)
    whole = filler.repeat(sum(len(places) for places, _ in ended), longest)
    for places, ids in ended:
        whole[places, : ids.shape[1]] = ids
    return whole
