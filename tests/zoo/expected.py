"""What is right where a cell is not equal: refusals."""

from __future__ import annotations

from collections.abc import Mapping

from tests.zoo.families import READING, WRITING

NOT_DISPATCHED = "its attention does not go through transformers' attention interface"
NO_OFFSETS = "the tokenizer has no fast form"
REFUSED: Mapping[tuple[str, str], str] = {
    **{("longformer", task): NOT_DISPATCHED for task in (*READING, "language_modelling")},
    **{("bloom", task): NOT_DISPATCHED for task in (*READING, *WRITING, "language_modelling")},
    **{("led", task): NOT_DISPATCHED for task in ("question_answering", *WRITING)},
    **{("byt5", task): NO_OFFSETS for task in (*READING, "language_modelling")},
    **{
        (family, "text_classification"): "reads another token of a text where the batch pads it"
        for family in ("t5gemma", "t5gemma2")
    },
}
