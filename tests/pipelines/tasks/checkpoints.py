"""Tiny checkpoints in the formats of published ones: their tokenizers, configs and special tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel

from pipelines.models.tokenizer import train_tokenizer

SOURCES = ["a dog sees the old house", "rain", "the old dog sleeps in the house", "houses see rain"]
TARGETS = ["ein Hund sieht das alte Haus", "Regen", "der alte Hund schläft im Haus", "Häuser sehen Regen"]
LETTERS = sorted({letter for text in SOURCES + TARGETS for letter in text if letter != " "})
FAIRSEQ = ["<s>", "<pad>", "</s>", "<unk>"]
SEQ2SEQ: dict[str, Any] = {
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 3,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
}


def rows() -> list[dict[str, Any]]:
    return [{"id": str(n), "source": s, "target": t} for n, (s, t) in enumerate(zip(SOURCES, TARGETS))]


def save(model, tokenizer, folder: Path) -> Path:
    """Write a checkpoint whose weights are so large that every token matters."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(1.2 * noise * parameter.shape[-1] ** -0.5)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def nllb(folder: Path) -> Path:
    pieces = [*FAIRSEQ, "▁", *LETTERS]
    tokenizer = transformers.NllbTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)}, merges=[]
    )
    config = transformers.M2M100Config(vocab_size=len(tokenizer), **SEQ2SEQ)
    return save(transformers.M2M100ForConditionalGeneration(config), tokenizer, folder)


def mbart50(folder: Path) -> Path:
    pieces = [
        ("<unk>", 0.0),
        ("<s>", 0.0),
        ("</s>", 0.0),
        ("▁", -2.0),
        *((letter, -3.0) for letter in LETTERS),
    ]
    tokenizer = transformers.MBart50Tokenizer(vocab=pieces, src_lang="en_XX", tgt_lang="ro_RO")
    config = transformers.MBartConfig(vocab_size=len(tokenizer), decoder_start_token_id=2, **SEQ2SEQ)
    return save(transformers.MBartForConditionalGeneration(config), tokenizer, folder)


def mbart25(folder: Path) -> Path:
    codes = ["en_XX", "de_DE", "ro_RO"]
    pieces = [*((piece, 0.0) for piece in FAIRSEQ), ("▁", -2.0), *((letter, -3.0) for letter in LETTERS)]
    tokenizer = transformers.MBartTokenizer(
        vocab=[*pieces, *((code, 0.0) for code in codes), ("<mask>", 0.0)]
    )
    config = transformers.MBartConfig(vocab_size=len(tokenizer), decoder_start_token_id=None, **SEQ2SEQ)
    return save(transformers.MBartForConditionalGeneration(config), tokenizer, folder)


def _sentencepiece(texts: list[str], prefix: Path, size: int) -> Path:
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 20),
        model_prefix=str(prefix),
        vocab_size=size,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return prefix.with_name(f"{prefix.name}.model")


def _pieces(model: Path) -> list[str]:
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    return [processor.id_to_piece(number) for number in range(processor.get_piece_size())]


def m2m100(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    spm = _sentencepiece(SOURCES + TARGETS, folder / "spm", 60)
    pieces = [*FAIRSEQ, *(piece for piece in _pieces(spm) if piece not in FAIRSEQ)]
    vocab = folder / "pieces.json"
    vocab.write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    tokenizer = transformers.M2M100Tokenizer(str(vocab), str(spm))
    size = len(pieces) + len(tokenizer.lang_code_to_id) + 8
    config = transformers.M2M100Config(vocab_size=size, **SEQ2SEQ)
    return save(transformers.M2M100ForConditionalGeneration(config), tokenizer, folder)


def marian(folder: Path, *, separate: bool = False) -> Path:
    """With a tokenizer for each language; `separate`: a vocabulary for each, too."""
    folder.mkdir(parents=True, exist_ok=True)
    spms = [_sentencepiece(texts, folder / f"spm{n}", 40 + n) for n, texts in enumerate((SOURCES, TARGETS))]
    found = [[piece for piece in _pieces(spm) if piece not in FAIRSEQ] for spm in spms]
    special = ["</s>", "<unk>"]
    if separate:
        size = max(map(len, found)) + 3
        lists = [[*special, *(p + [f"unused{n}" for n in range(size)])[: size - 3], "<pad>"] for p in found]
    else:
        lists = [[*special, *dict.fromkeys(found[0] + found[1]), "<pad>"]]
    files = []
    for number, pieces in enumerate(lists):
        files.append(folder / f"pieces{number}.json")
        files[-1].write_text(json.dumps({piece: place for place, piece in enumerate(pieces)}))
    tokenizer = transformers.MarianTokenizer(
        *map(str, spms), str(files[0]), str(files[-1]) if separate else None, separate_vocabs=separate
    )
    pad = len(lists[0]) - 1
    config = transformers.MarianConfig(
        vocab_size=len(lists[0]),
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=0,
        forced_eos_token_id=0,
        share_encoder_decoder_embeddings=not separate,
        tie_word_embeddings=not separate,
        **SEQ2SEQ,
    )
    model = transformers.MarianMTModel(config)
    model.generation_config.update(num_beams=6, max_length=512, bad_words_ids=[[pad]])
    return save(model, tokenizer, folder)


def bart(folder: Path, **generation: Any) -> Path:
    """With the search of its own that many summarization checkpoints state."""
    tokenizer = train_tokenizer("encoder_decoder", iter(SOURCES + TARGETS), 90)
    config = transformers.BartConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
        **SEQ2SEQ,
    )
    model = transformers.BartForConditionalGeneration(config)
    model.generation_config.update(**generation)
    return save(model, tokenizer, folder)


def gpt2(folder: Path) -> Path:
    """Without a pad token, and with bytes that do not begin with a space by themselves."""
    letters = sorted(ByteLevel.alphabet())
    vocab = {token: number for number, token in enumerate([*letters, "Ġa", "Ġh", "ou", "<|endoftext|>"])}
    merges = [("Ġ", "a"), ("Ġ", "h"), ("o", "u")]
    tokenizer = transformers.GPT2Tokenizer(vocab=vocab, merges=merges)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=24,
        n_layer=2,
        n_head=3,
        n_positions=128,
        bos_token_id=vocab["<|endoftext|>"],
        eos_token_id=vocab["<|endoftext|>"],
    )
    return save(transformers.GPT2LMHeadModel(config), tokenizer, folder)
