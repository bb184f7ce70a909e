"""A classifier whose result for a text depends on the padding behind it is refused."""

from __future__ import annotations

import pytest
import torch
import transformers

from pipelines.errors import UserError
from pipelines.models.build import build_model
from pipelines.models.padding import require_padding_ignored
from tests.pipelines.tasks.writing import SIZES, config, processor

HEAD = "sequence_classification"


@pytest.mark.parametrize("family", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_a_model_that_masks_padding_is_built(family, seed):
    run = config(family).model_copy(update={"seed": seed})
    assert build_model(run, HEAD, processor(family), {"num_labels": 3}) is not None


def test_one_that_looks_for_another_pad_token_is_refused():
    tokenizer = processor("decoder")
    model = build_model(config("decoder"), HEAD, tokenizer, {"num_labels": 3})
    forward = model.forward

    def read_the_last_column(input_ids, attention_mask):
        model.config.pad_token_id = None  # then the last column counts, whatever it holds
        return forward(input_ids=input_ids, attention_mask=attention_mask)

    model.forward = read_the_last_column
    with pytest.raises(UserError, match="reads another token of a text where the batch pads it"):
        require_padding_ignored(model, tokenizer)


def test_a_model_of_fewer_embeddings_than_the_tokenizer_has_ids_is_told_elsewhere():
    tokenizer = processor("encoder")
    entries = {**SIZES["encoder"][1], "vocab_size": 4, "pad_token_id": 0, "num_labels": 2}
    made = transformers.AutoConfig.for_model("bert", **entries)
    torch.manual_seed(0)
    require_padding_ignored(transformers.AutoModelForSequenceClassification.from_config(made), tokenizer)
