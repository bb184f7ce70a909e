"""Train a tokenizer for a model from scratch on the run's own training text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

LONGEST_WORD = 5000  # characters: a word of 200,000 takes minutes
NUM_SENTINELS = 32  # for hidden spans; T5 has 100


def train_tokenizer(family: str, texts: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train the kind of tokenizer that BERT, GPT-2 or T5 has, with at most `vocab_size` entries.

    encoder: WordPiece, lower case, [CLS] text [SEP] (BERT). decoder: byte-level BPE (GPT-2), with a
    padding entry of its own. encoder_decoder: text </s> with sentinels <extra_id_0> ... (T5), by BPE over
    words with the space before them: T5's own Unigram trainer splits into letters where there are few words.
    """
    return _FAMILIES[family](map(_with_cut_words, texts), vocab_size)


def _with_cut_words(text: str) -> str:
    """Return a text whose words are cut at a length: merges in a word take the square of its length."""
    return re.sub(rf"\S{{{LONGEST_WORD}}}(?=\S)", r"\g<0> ", text)


def _wordpiece(texts: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    normalizer, pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = [
        word for text in texts for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))
    ]
    # The trainer numbers the letters inside words in the order of a hash map, different in every process.
    # Given beforehand as special tokens they have fixed numbers, and ties between pieces are broken alike.
    inner = sorted({f"##{letter}" for word in words for letter in word[1:]})
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=[*special, *inner], show_progress=False
    )
    trained.train_from_iterator(words, trainer)
    tokenizer = Tokenizer(models.WordPiece(trained.get_vocab(), unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _byte_level_bpe(texts: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    special = ["<|endoftext|>", "<|pad|>"]
    tokenizer = Tokenizer(models.BPE())
    # A space before the first word too, so that pre-split words get the same pieces as running text.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[0], pad_token=special[1]
    )


def _word_bpe(texts: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    sentinels = [f"<extra_id_{number}>" for number in range(NUM_SENTINELS)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<pad>", "</s>", "<unk>", *sentinels], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=sentinels,
    )


_FAMILIES: dict[str, Callable[[Iterator[str], int], PreTrainedTokenizerFast]] = {
    "encoder": _wordpiece,
    "decoder": _byte_level_bpe,
    "encoder_decoder": _word_bpe,
}
