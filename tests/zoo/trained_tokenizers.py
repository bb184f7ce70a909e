"""Tokenizers of the classes that checkpoints have, trained on the zoo's own texts."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.zoo.texts import OTHERS, SENTENCES, TEXTS

SIZE = 300
# After training by sentencepiece the pieces follow these, in the order of the published files.
FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")


# The trainers of unigrams and word pieces give other scores and pieces in each process, and drawn weights
# then meet other ids. The pieces are made so that they are the same everywhere.
@lru_cache
def _wordpieces(specials: tuple[str, ...]) -> dict[str, int]:
    """Return letters, and the beginnings and ends of all words."""
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    texts = (normalizer.normalize_str(text) for text in TEXTS)
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(text)}
    letters = {letter for word in words for letter in word}
    pieces = letters | {f"##{letter}" for letter in letters}
    pieces |= {word[:4] for word in words} | {f"##{word[4:]}" for word in words if word[4:]}
    return {piece: number for number, piece in enumerate([*specials, *sorted(pieces)])}


@lru_cache
def _unigrams() -> list[tuple[str, float]]:
    """Return pieces with their scores, without special tokens: a log share of what the texts hold."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=SIZE, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*TEXTS, *TEXTS], trainer)
    text = " ".join(["", *TEXTS]).replace(" ", "▁")
    counts = {piece: text.count(piece) for piece in tokenizer.get_vocab() if piece != "<unk>"}
    scores = {piece: math.log(count / len(text)) for piece, count in counts.items()}
    return sorted(scores.items(), key=lambda found: (-found[1], found[0]))


def _after(*specials: str) -> list[tuple[str, float]]:
    return [*((name, 0.0) for name in specials), *_unigrams()]


@lru_cache
def _merged(specials: tuple[str, ...], is_byte_level: bool) -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False) if is_byte_level else pre_tokenizers.Metaspace()
    )
    letters = pre_tokenizers.ByteLevel.alphabet() if is_byte_level else []
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE + len(specials) + len(letters),
        special_tokens=list(specials),
        initial_alphabet=letters,
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def _bpe(name: str, specials: tuple[str, ...], is_byte_level: bool = True, **options: Any) -> Any:
    vocab, merges = _merged(specials, is_byte_level)
    return getattr(transformers, name)(vocab=dict(vocab), merges=list(merges), **options)


# ---- one function for each class of tokenizer
def bert(**options: Any) -> Any:
    specials = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    return transformers.BertTokenizer(vocab=dict(_wordpieces(specials)), **options)


def mpnet(**options: Any) -> Any:
    specials = ("<s>", "<pad>", "</s>", "[UNK]", "<mask>")
    return transformers.MPNetTokenizer(vocab=dict(_wordpieces(specials)), **options)


def roberta(**options: Any) -> Any:
    return _bpe("RobertaTokenizer", (*FAIRSEQ, "<mask>"), **options)


def gpt2(**options: Any) -> Any:
    return _bpe("GPT2Tokenizer", ("<|endoftext|>",), **options)


def opt(**options: Any) -> Any:
    names = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    tokenizer = _bpe("GPT2Tokenizer", FAIRSEQ, **names, **options)
    return _template(tokenizer, "</s> $A", "</s> $A </s> $B")


def qwen(**options: Any) -> Any:
    return _bpe("Qwen2Tokenizer", ("<|endoftext|>",), **options)


def bloom(**options: Any) -> Any:
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    backend = _backend(("<unk>", "<s>", "</s>", "<pad>"))
    return transformers.TokenizersBackend(tokenizer_object=backend, padding_side="left", **names, **options)


def modernbert(**options: Any) -> Any:
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    specials = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    tokenizer = transformers.TokenizersBackend(
        tokenizer_object=_backend(specials), mask_token="[MASK]", **names, **options
    )
    return _template(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]")


def _backend(specials: tuple[str, ...]) -> Tokenizer:
    vocab, merges = _merged(specials, True)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _template(tokenizer: Any, single: str, pair: str) -> Any:
    names = {name for name in (single + " " + pair).split() if not name.startswith("$")}
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single,
        pair=pair,
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in sorted(names)],
    )
    return tokenizer


def llama(**options: Any) -> Any:
    pieces = ("<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)))
    tokenizer = _bpe("LlamaTokenizer", pieces, is_byte_level=False, **options)
    return _template(tokenizer, "<s> $A", "<s> $A <s> $B")


def gemma(**options: Any) -> Any:
    pieces = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)))
    tokenizer = _bpe("GemmaTokenizer", pieces, is_byte_level=False, **options)
    return _template(tokenizer, "<bos> $A", "<bos> $A <bos> $B")


def xlm_roberta(**options: Any) -> Any:
    return transformers.XLMRobertaTokenizer(vocab=[*_after(*FAIRSEQ), ("<mask>", 0.0)], **options)


def camembert(**options: Any) -> Any:
    specials = ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>")
    return transformers.CamembertTokenizer(vocab=[*_after(*specials), ("<mask>", 0.0)], **options)


def albert(**options: Any) -> Any:
    specials = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
    return transformers.AlbertTokenizer(vocab=_after(*specials), **options)


def deberta(**options: Any) -> Any:
    specials = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
    vocab = [*_after(*specials), ("[MASK]", 0.0)]
    tokenizer = transformers.DebertaV2Tokenizer(vocab=vocab, **options)
    return _template(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")


def t5(**options: Any) -> Any:
    sentinels = [(f"<extra_id_{number}>", 0.0) for number in range(99, -1, -1)]
    return transformers.T5Tokenizer(vocab=[*_after("<pad>", "</s>", "<unk>"), *sentinels], **options)


def byt5(**options: Any) -> Any:
    return transformers.ByT5Tokenizer(**options)


def pegasus(**options: Any) -> Any:
    specials = ("<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{n}>" for n in range(2, 103)), "<unk>")
    return transformers.PegasusTokenizer(vocab=_after(*specials), **options)


def mbart50(**options: Any) -> Any:
    vocab = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *_unigrams()]
    return transformers.MBart50Tokenizer(vocab=vocab, **options)


def nllb(**options: Any) -> Any:
    return _bpe("NllbTokenizer", FAIRSEQ, is_byte_level=False, **options)


def marian(folder: Path, **options: Any) -> Any:
    """Train one sentencepiece model for each language; they share a vocabulary, as in opus-mt."""
    pieces = [
        _sentencepiece(folder / f"{name}.spm", texts)
        for name, texts in (("source", SENTENCES), ("target", OTHERS))
    ]
    names = ["</s>", "<unk>", *sorted({piece for found in pieces for piece in found}), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    return transformers.MarianTokenizer(*files, **options)


def m2m100(folder: Path, **options: Any) -> Any:
    pieces = _sentencepiece(folder / "sentencepiece.bpe.model", TEXTS)
    names = [*FAIRSEQ, *pieces]
    (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    files = [str(folder / name) for name in ("vocab.json", "sentencepiece.bpe.model")]
    return transformers.M2M100Tokenizer(*files, **options)


def _sentencepiece(file: Path, texts: Any) -> list[str]:
    """Train a model into `file` and return its pieces, without control tokens."""
    import sentencepiece

    with file.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=stream,
            vocab_size=100,
            hard_vocab_limit=False,
            minloglevel=2,
            num_threads=1,
        )
    model = sentencepiece.SentencePieceProcessor(model_file=str(file))
    return [model.id_to_piece(number) for number in range(model.get_piece_size()) if number > 2]
