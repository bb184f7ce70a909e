"""Whether a model of texts reads as its family says: a decoder from left to right, any other all at once.

A BERT under `family: decoder` would see the token that it has to predict: its perplexity would mean nothing.
"""

from __future__ import annotations

import torch

from custom_attention.modes import quiet
from pipelines.errors import UserError

NUM_TOKENS = 8
UNCHANGED = 50 * torch.finfo(torch.float32).eps  # of the largest number, which rounding may move


def require_direction(model: torch.nn.Module, family: str) -> None:
    """Refuse a decoder whose first token sees the last one, and an encoder whose first token does not.

    Args:
        model: of texts; its encoder is asked where it has one.

    Raises:
        UserError: the family is not that of the model.
    """
    reader = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    sees_later, name = _first_token_sees_the_last(reader), reader.config.model_type
    if family == "decoder" and sees_later:
        what = f"{name} sees the tokens that a decoder has to predict"
        fix = (
            "set encoder; or model.config.is_decoder=true, if its config can make it read from left to right"
        )
        raise UserError("model.family", what, family, fix)
    if family != "decoder" and not sees_later:
        raise UserError("model.family", f"{name} reads from left to right", family, "set decoder")


@torch.no_grad()
def _first_token_sees_the_last(reader: torch.nn.Module) -> bool:
    """Whether another last token changes the state of the first one."""
    ids = [token for token in range(NUM_TOKENS + 2) if token != reader.config.pad_token_id]
    rows = torch.tensor([ids[:NUM_TOKENS], [*ids[: NUM_TOKENS - 1], ids[NUM_TOKENS]]])
    with quiet(reader):
        states = reader(input_ids=rows, attention_mask=torch.ones_like(rows))[0]
    one, other = states[:, 0].float()
    return float((one - other).abs().max()) > UNCHANGED * float(one.abs().max())
