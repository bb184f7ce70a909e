"""Special tokens are found for a tokenizer of any alphabet, as that tokenizer itself puts them."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from pipelines.tasks.shared.pair_encoder import PairEncoder
from pipelines.tasks.shared.probe import probe
from pipelines.tasks.shared.text_encoder import TextEncoder
from pipelines.tasks.shared.word_encoder import WordEncoder

SPECIALS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
ALPHABETS = {  # texts, of which no letter is "a"
    "chinese": ["我们 坐 火车 去 上海", "他们 把 旧 房子 卖给 邻居"],
    "proteins": ["MKTAYIAK QR", "LLGDFF RKSK"],
    "greek": ["ο γάτος κοιμάται", "η γάτα τρέχει"],
}


def tokenizer(texts: list[str], normalizer: normalizers.Normalizer | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer without an unknown token, which drops other letters."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=70, special_tokens=SPECIALS, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("normalizer", [None, normalizers.Replace("a", "")])
def test_ids_with_special_tokens_are_those_of_the_tokenizer(alphabet, normalizer):
    texts = ALPHABETS[alphabet]
    made = tokenizer(texts, normalizer)
    first, second = (made(text, add_special_tokens=False)["input_ids"] for text in texts)

    one = TextEncoder(made)
    assert [*one.prefix, *one([texts[0]])[0], *one.suffix] == made(texts[0])["input_ids"] == [1, *first, 2]
    before, after = one.around_target
    assert [*before, *first, *after] == made(text_target=texts[0])["input_ids"]

    pair = PairEncoder(made)
    found = pair([texts[0], texts[1]])
    assert pair.join(found[0].ids, found[1].ids)[0] == made(*texts)["input_ids"] == [1, *first, 2, *second, 2]
    assert pair.join(found[0].ids)[0] == [1, *first, 2]

    words = WordEncoder(made)
    pieces = words([texts[0].split()])[0]
    right = made(texts[0].split(), is_split_into_words=True)["input_ids"]
    assert [*words.prefix, *(token for piece in pieces for token in piece), *words.suffix] == right


def test_the_usual_text_is_taken_where_it_has_a_token():
    assert probe(lambda text: [1], {"b": 0}) == "a"
    assert probe(lambda text: [] if text in "ab" else [1], {"c": 1, "b": 0}) == "c"
    assert probe(lambda text: [], {"b": 0}) == "a"
