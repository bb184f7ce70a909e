"""What is right where a cell is not equal: refusals, and faults that are known."""

from __future__ import annotations

from collections.abc import Mapping

from tests.zoo.families import READING, WRITING

NOT_DISPATCHED = "its attention does not go through transformers' attention interface"
NO_OFFSETS = "the tokenizer has no fast form"
REFUSED: Mapping[tuple[str, str], str] = {
    **{
        (family, task): NOT_DISPATCHED
        for family in ("deberta-v3", "mpnet", "longformer")
        for task in (*READING, "language_modelling")
    },
    **{("bloom", task): NOT_DISPATCHED for task in (*READING, *WRITING, "language_modelling")},
    **{("led", task): NOT_DISPATCHED for task in ("question_answering", *WRITING)},
    **{("byt5", task): NO_OFFSETS for task in ("ner", "question_answering")},
}
WRONG: Mapping[tuple[str, str], str] = {
    **{
        (family, task): "no space between source, separator and target of a byte-level tokenizer"
        for family in ("gpt2", "opt", "qwen")
        for task in WRITING
    },
    ("byt5", "language_modelling"): "a traceback: a slow tokenizer gives no offsets",
    ("byt5", "text_classification"): "refused for its offsets, which no label needs",
    **{(name, "translation"): "no option for the source language" for name in ("mbart-50", "nllb", "m2m100")},
    **{("marian", task): "targets are cut by the tokenizer of the source" for task in WRITING},
    ("t5gemma", "text_classification"): "transformers reads another token where a row is padded",
    **{("t5gemma", task): "a traceback: no decoder_start_token_id in the config" for task in WRITING},
    **{("bert2bert", task): "targets lack the [CLS] that the tokenizer gives them" for task in WRITING},
}
_OWN_SEARCH = "the checkpoint's own search settings apply unseen"
_OWN_ORDER = "the head's own order of labels is not kept"
WRONG_QUIRKS: Mapping[str, str] = {
    "a search of its own": _OWN_SEARCH,
    "a search of its own in config.json": _OWN_SEARCH,
    "sampling of its own": _OWN_SEARCH,
    "labels in another order": _OWN_ORDER,
    "classes in another order": _OWN_ORDER,
}
