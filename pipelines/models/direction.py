"""Check that a text model reads in the direction of its family: a decoder left to right, others both ways.

A BERT under `family: decoder` would see the token that it has to predict, and its perplexity would be wrong.
"""

from __future__ import annotations

from typing import cast

import torch
from transformers import PreTrainedModel

from custom_attention.modes import quiet
from pipelines.errors import UserError

NUM_TOKENS = 8
UNCHANGED = 50 * torch.finfo(torch.float32).eps  # rounding, relative to the largest number of a state


def require_direction(model: PreTrainedModel, family: str) -> None:
    """Refuse a decoder whose first token sees a later one, and an encoder whose first token does not.

    Args:
        model: a model of texts; of an encoder-decoder, its encoder is checked.

    Raises:
        UserError: the family is not that of the model.
    """
    body = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    reader = cast(PreTrainedModel, body)
    sees_later, name = _first_token_sees_later_ones(reader), reader.config.model_type
    if family == "decoder" and sees_later:
        what = f"{name} sees the tokens that a decoder has to predict"
        fix = (
            "set encoder; or model.config.is_decoder=true, if its config can make it read from left to right"
        )
        raise UserError("model.family", what, family, fix)
    if family != "decoder" and not sees_later:
        raise UserError("model.family", f"{name} reads from left to right", family, "set decoder")


@torch.no_grad()
def _first_token_sees_later_ones(reader: PreTrainedModel) -> bool:
    """Return whether changing all later tokens changes the hidden state of the first one.

    All of them, because attention may reach only as far as a window.
    """
    text = reader.config.get_text_config()  # T5Gemma 2's encoder has a part for images too
    known = min(NUM_TOKENS + 2, getattr(text, "vocab_size", NUM_TOKENS + 2))
    ids = [token for token in range(known) if token != text.pad_token_id]
    ids *= NUM_TOKENS + 1  # a vocabulary may be smaller than the row
    # Several rows: in a model of a few numbers, one change may leave the state as it is by chance.
    later = [ids[1:NUM_TOKENS], ids[2 : NUM_TOKENS + 1], *([one] * (NUM_TOKENS - 1) for one in ids[1:5])]
    rows = torch.tensor([[ids[0], *tokens] for tokens in later])
    with quiet(reader):
        states = reader(input_ids=rows, attention_mask=torch.ones_like(rows))[0]
    one, *others = states[:, 0].float()
    if not one.isfinite().all():
        fix = "look for NaN in its weights, and save the model again"
        raise UserError("model", "its outputs are not finite numbers", reader.config.model_type, fix)
    largest = max(float((one - other).abs().max()) for other in others)
    return largest > UNCHANGED * float(one.abs().max())
