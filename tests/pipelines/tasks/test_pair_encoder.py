"""Pairs of texts: the tokenizer's own format, and every character where it was."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pipelines.models.tokenizer import train_tokenizer
from pipelines.tasks.shared.pair_encoder import PairEncoder

TEXTS = [
    "who sang in Rome ?",
    "Zoë Andre\u0301 sang in Rome \U0001f600 on monday .",
    "an uneventful day in Malmö",
] * 4
TOKENIZERS = {
    family: train_tokenizer(family, iter(TEXTS), 320) for family in ("encoder", "decoder", "encoder_decoder")
}
MIXED = "ab é e\u0301 o\u0308\u0323 \U0001f600\u200d\U0001f52c 東京 \u00a0 \t\n ﬁ ß İ ½ 한 \u1112\u1161 -.'"


@pytest.mark.parametrize("family", TOKENIZERS)
def test_a_pair_is_joined_as_the_tokenizer_joins_it(family):
    tokenizer = TOKENIZERS[family]
    encoder = PairEncoder(tokenizer)
    first, second = encoder([TEXTS[0], TEXTS[1]])
    ids, second_at = encoder.join(first.ids, second.ids)
    whole = tokenizer(TEXTS[0], TEXTS[1], return_token_type_ids=True)
    assert ids == whole["input_ids"]
    assert ids[second_at : second_at + len(second.ids)] == second.ids
    assert encoder.has_segments == (family == "encoder")
    if encoder.has_segments:
        assert whole["token_type_ids"] == [int(place >= second_at) for place in range(len(ids))]
    alone, _ = encoder.join(first.ids)
    assert alone == tokenizer(TEXTS[0])["input_ids"]
    assert len(ids) == len(first.ids) + len(second.ids) + encoder.num_special


def test_a_real_tokenizer_that_truncates_and_pads_on_its_own_is_joined_whole(shared):
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "minilm-l6", add_prefix_space=True)
    encoder = PairEncoder(tokenizer)
    first, second = encoder(["who ?", "word " * 700])
    assert len(second.ids) == 700
    ids, _ = encoder.join(first.ids, second.ids)
    assert ids == tokenizer("who ?", "word " * 700, truncation=False)["input_ids"]
    assert encoder.has_segments


@pytest.mark.parametrize("family", TOKENIZERS)
@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=MIXED, max_size=40))
@example("Andre\u0301 sang")
@example("  a \U0001f600\ufe0f b")
def test_the_characters_of_tokens_rise_and_miss_none_that_is_seen(family, text):
    """Places never run backwards, touch no white space at their ends, and cover every visible character."""
    encoder = PairEncoder(TOKENIZERS[family])
    [tokens] = encoder([text])
    covered = set()
    for begin, end in zip(tokens.begins, tokens.ends):
        assert 0 <= begin <= end <= len(text)
        if begin < end:
            assert not text[begin].isspace()
            assert not text[end - 1].isspace()
            covered |= set(range(begin, end))
    spans = [span for span in zip(tokens.begins, tokens.ends) if span[0] < span[1]]
    assert [begin for begin, _ in spans] == sorted(begin for begin, _ in spans)
    visible = {place for place, character in enumerate(text) if character.isalnum()}
    assert visible <= covered


@pytest.mark.parametrize("family", TOKENIZERS)
def test_every_word_comes_back_from_its_tokens_character_by_character(family):
    text = "  Zoë Andre\u0301 \U0001f600 met Jose\u0301  Müller ,\U0001f469\u200d\U0001f52c in Malmo\u0308\t."
    [tokens] = PairEncoder(TOKENIZERS[family])([text])
    place = 0
    for word in text.split():
        begin = text.index(word, place)
        place = begin + len(word)
        inside = [i for i, (b, e) in enumerate(zip(tokens.begins, tokens.ends)) if b < place and e > begin]
        assert text[tokens.begins[inside[0]] : tokens.ends[inside[-1]]] == word


@pytest.mark.parametrize("family", TOKENIZERS)
def test_special_tokens_written_in_a_text_are_no_structure(family):
    encoder = PairEncoder(TOKENIZERS[family])
    [tokens] = encoder(["a [SEP] b </s> c <|endoftext|> d [CLS]"])
    structure = {
        *encoder.before_first,
        *encoder.between,
        *encoder.after_second,
        TOKENIZERS[family].eos_token_id,
    }
    assert not structure & set(tokens.ids)
    assert not TOKENIZERS[family].backend_tokenizer.encode_special_tokens  # others find it as it was
