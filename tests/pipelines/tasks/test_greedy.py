"""Greedy search without the rows of texts that have ended writes what transformers' own loop writes."""

import copy

import pytest
import torch

import custom_attention
from pipelines.tasks.shared import greedy
from pipelines.tasks.shared.greedy import write_greedily
from tests.custom_attention.models import ENCODER_DECODER, GENERATING, PAD, VOCAB, tiny

ENDS = list(range(1, VOCAB, 5))  # so many that texts end at every step
MOST_NEW = 17
SEARCHES = [
    {},
    {"min_new_tokens": 3, "no_repeat_ngram_size": 2},
    {"repetition_penalty": 1.7},
    {"forced_bos_token_id": 9},
    {"use_cache": False},
]


def prompts(family, lengths=(9, 4, 7, 2, 6, 8, 3, 5, 9, 1, 6)):
    generator = torch.Generator().manual_seed(11)
    ids = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in zip(ids, lengths):
        place = slice(0, length) if family in ENCODER_DECODER else slice(len(row) - length, None)
        row[place] = torch.randint(2, VOCAB, (length,), generator=generator)
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def written(model, family, **search):
    stated = {"max_new_tokens": MOST_NEW, "do_sample": False, "eos_token_id": ENDS, "pad_token_id": PAD}
    return model.generate(**prompts(family), **stated, **search)


def rows_of_each_step(model, family, **search):
    seen = []
    with_rows = "decoder_input_ids" if family in ENCODER_DECODER else "input_ids"
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs[with_rows])), with_kwargs=True
    )
    tokens = written(model, family, custom_generate=write_greedily, **search)
    hook.remove()
    return seen, tokens


@pytest.mark.parametrize("search", SEARCHES, ids=str)
@pytest.mark.parametrize("family", GENERATING)
def test_the_tokens_are_those_of_transformers(family, search):
    model = tiny(family)
    wanted = written(model, family, **search)
    came = written(model, family, custom_generate=write_greedily, **search)
    assert torch.equal(came, wanted)


@pytest.mark.parametrize("family", GENERATING)
def test_texts_that_have_ended_leave_the_batch(family):
    seen, tokens = rows_of_each_step(tiny(family), family)
    begin = 1 if family in ENCODER_DECODER else prompts(family)["input_ids"].shape[1]
    ended = torch.isin(tokens[:, begin:], torch.tensor(ENDS)).cumsum(1) > 0
    going_on = [len(tokens), *(~ended).sum(0).tolist()]
    assert seen[-1] < seen[0] == len(tokens)
    assert all(left <= rows and (rows == left or left > 0.75 * rows) for rows, left in zip(seen, going_on))


def test_a_rule_that_keeps_the_sources_of_the_batch_keeps_its_rows():
    asked = {"encoder_repetition_penalty": 2.5, "encoder_no_repeat_ngram_size": 2}
    seen, tokens = rows_of_each_step(tiny("t5"), "t5", **asked)
    assert set(seen) == {len(tokens)}
    assert torch.equal(tokens, written(tiny("t5"), "t5", **asked))


@pytest.mark.parametrize("family", ["llama", "bart"])
def test_what_variants_keep_of_earlier_tokens_leaves_with_its_text(family, monkeypatch):
    model = copy.deepcopy(tiny(family))
    custom_attention.attach(model, ["forgetting", "token_temperature"], where={"kind": "self"})
    with torch.no_grad():
        for parameter in custom_attention.variant_parameters(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    came = written(model, family, custom_generate=write_greedily)
    assert torch.equal(came, written(model, family))
    monkeypatch.setattr(greedy, "MOST_KEPT", 0.0)
    assert torch.equal(came, written(model, family, custom_generate=write_greedily))
