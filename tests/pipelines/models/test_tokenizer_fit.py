"""A tokenizer gives what its model can read: positions, token types, padding, and its own flags."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipelines.config.load import run_from_dict
from pipelines.errors import UserError
from pipelines.models.processor import load_processor
from pipelines.models.tokenizer import train_tokenizer
from pipelines.tasks.load import load_task

TEXTS = ["the cat sat on the mat", "a mat and a cat"]
SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 29,
    "vocab_size": 90,
}
LIMITS = [  # architecture, entries of its config, tokens that it reads at most
    ("bert", {**SMALL, "max_position_embeddings": 33}, 33),
    ("roberta", {**SMALL, "max_position_embeddings": 35}, 33),
    ("roberta", {**SMALL, "max_position_embeddings": 35, "pad_token_id": 0}, 34),
    ("camembert", {**SMALL, "max_position_embeddings": 35}, 33),
    ("mpnet", {**SMALL, "max_position_embeddings": 35}, 33),
    ("longformer", {**SMALL, "max_position_embeddings": 34, "attention_window": 8}, 32),
    ("distilbert", {"dim": 24, "n_layers": 1, "n_heads": 2, "max_position_embeddings": 33}, 33),
    ("gpt2", {"n_embd": 24, "n_layer": 1, "n_head": 2, "vocab_size": 90, "n_positions": 33}, 33),
    ("opt", {**SMALL, "ffn_dim": 29, "word_embed_proj_dim": 24, "max_position_embeddings": 33}, 33),
]
STATED_ONLY = [  # the model itself would read more
    ("llama", {**SMALL, "max_position_embeddings": 33}, 33),
    ("led", {"max_encoder_position_embeddings": 64}, 64),
    ("bart", {"max_position_embeddings": 33}, 33),
    ("marian", {"max_position_embeddings": 33, "pad_token_id": 1}, 33),
    ("t5", {}, None),
    ("xlnet", {}, None),
]


def tokenizer(**options) -> PreTrainedTokenizerFast:
    made = train_tokenizer("encoder", iter(TEXTS), 90)
    for name, value in options.items():
        setattr(made, name, value)
    return made


def fitted(folder, architecture: str, entries: dict, made: PreTrainedTokenizerFast):
    """The tokenizer, beside a checkpoint of this config; the weights play no part."""
    transformers.AutoConfig.for_model(architecture, **entries).save_pretrained(folder)
    made.save_pretrained(folder)
    (Path(folder) / "model.safetensors").touch()
    task = {"name": "text_classification", "max_len": 16}
    model = {"name": str(folder), "family": "encoder"}
    config = run_from_dict({"task": task, "data": {"train": "none.jsonl"}, "model": model})
    return load_processor(config, load_task(config))


@pytest.mark.parametrize(("architecture", "entries", "most"), LIMITS + STATED_ONLY)
def test_the_longest_input_is_the_config_s_where_the_tokenizer_states_none(
    architecture, entries, most, tmp_path
):
    plain = tokenizer()
    found = fitted(tmp_path, architecture, entries, plain).model_max_length
    assert found == (most or plain.model_max_length)


@pytest.mark.parametrize(("architecture", "entries", "most"), LIMITS)
def test_a_model_reads_the_longest_input_and_no_longer_one(architecture, entries, most):
    config = transformers.AutoConfig.for_model(architecture, **entries)
    model = transformers.AutoModel.from_config(config).eval()

    def read(length: int) -> None:
        ids = torch.full((1, length), 7)
        model(input_ids=ids, attention_mask=torch.ones_like(ids))

    read(most)
    step = 8 if architecture == "longformer" else 1  # it pads to its window
    with pytest.raises((IndexError, RuntimeError)):
        read(most + step)


def test_the_shorter_of_two_stated_limits_counts(tmp_path):
    bert = {**SMALL, "max_position_embeddings": 33}
    assert fitted(tmp_path / "a", "bert", bert, tokenizer(model_max_length=20)).model_max_length == 20
    assert fitted(tmp_path / "b", "bert", bert, tokenizer(model_max_length=512)).model_max_length == 33


@pytest.mark.parametrize(
    ("architecture", "entries", "has"),
    [
        ("bert", {}, True),
        ("bert", {"type_vocab_size": 1}, False),
        ("roberta", {"type_vocab_size": 1}, False),
        ("roberta", {"type_vocab_size": 2}, True),
        ("distilbert", {}, False),
    ],
)
def test_token_types_are_given_to_a_model_that_has_two(architecture, entries, has, tmp_path):
    found = fitted(tmp_path, architecture, entries, tokenizer())
    assert ("token_type_ids" in found.model_input_names) == has


@pytest.mark.parametrize(
    ("entries", "pad", "expected"),
    [
        ({}, None, "[SEP]"),
        ({"pad_token_id": 3}, None, "[UNK]"),
        ({"pad_token_id": -1}, None, "[SEP]"),
        ({"pad_token_id": 3}, "[PAD]", "[PAD]"),
    ],
)
def test_padding_is_the_tokenizer_s_then_the_config_s_then_the_end_token(entries, pad, expected, tmp_path):
    vocab = {token: number for number, token in enumerate(["[PAD]", "a", "b", "[UNK]", "[SEP]"])}
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocab, unk_token="[UNK]")),
        unk_token="[UNK]",
        eos_token="[SEP]",
        pad_token=pad,
    )
    assert fitted(tmp_path, "gpt2", {"vocab_size": 5, **entries}, made).pad_token == expected


@pytest.mark.parametrize("adds_space", [False, True])
@pytest.mark.parametrize("task", ["text_classification", "ner"])
def test_the_flags_of_a_byte_level_tokenizer_are_its_own(adds_space, task, tmp_path):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {
        piece: n for n, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters, "Ġc", "ca", "<mask>"])
    }
    merges = [("Ġ", "c"), ("c", "a")]
    transformers.RobertaTokenizer(vocab=vocab, merges=merges, add_prefix_space=adds_space).save_pretrained(
        tmp_path
    )
    transformers.RobertaConfig(vocab_size=len(vocab)).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    model = {"name": str(tmp_path), "family": "encoder"}
    config = run_from_dict({"task": task, "data": {"train": "none.jsonl"}, "model": model})
    bound = load_task(config)
    bound.bind(load_processor(config, bound), "encoder")
    as_stored = AutoTokenizer.from_pretrained(tmp_path)
    assert bound.processor("cat cab")["input_ids"] == as_stored("cat cab")["input_ids"]
    if task == "ner":
        spaced = AutoTokenizer.from_pretrained(tmp_path, add_prefix_space=True)
        [feature] = bound.prepare([{"id": "1", "tokens": ["cat", "cab"]}])
        assert feature["input_ids"] == spaced(["cat", "cab"], is_split_into_words=True)["input_ids"]


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder_decoder"])
def test_a_trained_tokenizer_reads_the_same_after_it_was_stored(family, tmp_path):
    made = train_tokenizer(family, iter(TEXTS), 300)
    made.save_pretrained(tmp_path)
    for text in ("the cat", " a mat", "cat mat"):
        assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == made(text)["input_ids"]


def test_a_package_that_a_tokenizer_needs_is_named(tmp_path, monkeypatch):
    def needs(*_, **__):
        raise ImportError("\nXTokenizer requires the fugashi library but it was not found. Install it.\n")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", needs)
    with pytest.raises(UserError, match="not installed: XTokenizer requires the fugashi library"):
        fitted(tmp_path, "bert", SMALL, tokenizer())
