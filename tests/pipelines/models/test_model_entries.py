"""Entries of `model.config` that do not fit are refused in one sentence, whichever library fails on them."""

from __future__ import annotations

import pytest
import transformers

from pipelines.errors import UserError
from pipelines.models.build import build_model, known_config, stated_config
from tests.pipelines.tasks.writing import SIZES, config, processor, with_model

ODD = [  # family, an entry, what must be said: each architecture checks itself in its own way, or not at all
    ("encoder", {"hidden_size": 25}, "not a multiple of the number of attention heads"),
    ("encoder", {"hidden_act": "nope"}, "KeyError: 'nope'"),
    ("encoder", {"hidden_dropout_prob": 7}, "between 0 and 1, but got 7"),
    ("encoder", {"num_attention_heads": 0}, "ZeroDivisionError"),
    ("decoder", {"n_head": 5}, "must be divisible by num_heads"),
    ("encoder_decoder", {"feed_forward_proj": "nope"}, "KeyError: 'nope'"),
]


@pytest.mark.parametrize(("family", "entry", "said"), ODD)
def test_a_model_from_scratch_says_which_entries_it_cannot_be_built_with(family, entry, said):
    architecture, sizes = SIZES[family]
    run = with_model(config(family), config={**sizes, **entry})
    with pytest.raises(UserError, match=said) as caught:
        build_model(run, "token_classification", processor(family), {})
    assert f"model.config: {architecture} cannot be built with these entries" in str(caught.value)
    assert str(entry)[1:-1] in str(caught.value)


def test_an_entry_of_another_type_is_told_before_the_tokenizer_is_trained():
    run = with_model(config("encoder"), config={"hidden_size": "wide"})
    with pytest.raises(UserError, match=r"model\.config: bert cannot be .* expected int, got str"):
        known_config(run.model)


def test_a_pretrained_model_says_the_same(tmp_path):
    family = "encoder"
    run = config(family)
    build_model(run, "token_classification", processor(family), {}).save_pretrained(tmp_path)
    changed = with_model(run, name=str(tmp_path), architecture=None, config={"hidden_act": "nope"})
    with pytest.raises(UserError, match=r"cannot be built with these entries \(KeyError: 'nope'\)"):
        build_model(changed, "token_classification", processor(family), {})


@pytest.mark.parametrize(
    ("model", "entry"),
    [
        (transformers.BertModel, "num_hidden_layers"),
        (transformers.GPT2LMHeadModel, "n_layer"),
        (transformers.BartForConditionalGeneration, "decoder_layers"),
    ],
)
def test_a_checkpoint_without_layers_is_refused_as_such(tmp_path, model, entry):
    small = {"hidden_size": 16, "num_attention_heads": 2, "vocab_size": 40, "bos_token_id": 0}
    small |= {"eos_token_id": 1, "pad_token_id": 0}
    made = model.config_class(**small, **{entry: 0})
    model(made).save_pretrained(tmp_path)
    run = with_model(config("encoder"), name=str(tmp_path), architecture=None, config={})
    with pytest.raises(UserError, match="a model without layers has no attention"):
        stated_config(run.model)
