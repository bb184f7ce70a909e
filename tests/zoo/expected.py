"""What is right where a cell is not equal: refusals, and faults that are known."""

from __future__ import annotations

from collections.abc import Mapping

from tests.zoo.families import READING, WRITING

NOT_DISPATCHED = "its attention does not go through transformers' attention interface"
NO_CLASS_TOKEN = (
    "targets lack the [CLS] that the tokenizer gives them, on purpose: the decoder already starts with it, "
    "and would only learn to write it once more"
)
NO_OFFSETS = "the tokenizer has no fast form"
REFUSED: Mapping[tuple[str, str], str] = {
    **{
        (family, task): NOT_DISPATCHED
        for family in ("deberta-v3", "mpnet", "longformer")
        for task in (*READING, "language_modelling")
    },
    **{("bloom", task): NOT_DISPATCHED for task in (*READING, *WRITING, "language_modelling")},
    **{("led", task): NOT_DISPATCHED for task in ("question_answering", *WRITING)},
    **{("byt5", task): NO_OFFSETS for task in (*READING, "language_modelling")},
}
WRONG: Mapping[tuple[str, str], str] = {
    ("t5gemma", "text_classification"): "transformers reads another token where a row is padded",
    **{("bert2bert", task): NO_CLASS_TOKEN for task in WRITING},
}
WRONG_QUIRKS: Mapping[str, str] = {}
