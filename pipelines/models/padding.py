"""Check that a head of one output per input reads the same token of it with and without padding after it.

A model that finds the last token by the pad token may count one too far, where there is one more (T5Gemma):
then the label of a text depends on the texts that are in its batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from custom_attention.modes import quiet
from pipelines.errors import UserError

NUM_PADS = 2
UNCHANGED = 1e-3  # of the largest logit: padding changes the order in which numbers are added, and no more


@torch.no_grad()
def require_padding_ignored(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a model that classifies a text otherwise when padding follows it.

    Raises:
        UserError: it does.
    """
    pad = model.config.pad_token_id
    ids = torch.tensor([tokenizer("a b")["input_ids"]], dtype=torch.long)
    embeddings: Any = model.get_input_embeddings()
    if pad is None or not ids.numel() or int(ids.max()) >= len(embeddings.weight):  # told of the first batch
        return
    mask = torch.ones_like(ids)
    with quiet(model):
        alone = model(input_ids=ids, attention_mask=mask).logits.float()
        longer, shown = functional.pad(ids, (0, NUM_PADS), value=pad), functional.pad(mask, (0, NUM_PADS))
        padded = model(input_ids=longer, attention_mask=shown).logits.float()
    if float((alone - padded).abs().max()) > UNCHANGED * float(alone.abs().max()):
        what = "its classifier reads another token of a text where the batch pads it"
        fix = "choose another architecture for this task"
        raise UserError("model", what, model.config.model_type, fix)
