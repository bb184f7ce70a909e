"""The YAML head of a card: what the Hub reads about a repository."""

from __future__ import annotations

from collections.abc import Mapping

import yaml
from huggingface_hub import ModelCard

from pipelines.errors import UserError
from pipelines.shown import printable

# The Hub's name for the job of a model, by the head of its task; see `pipeline_tag` for the others.
PIPELINE_TAGS = {
    "token_classification": "token-classification",
    "question_answering": "question-answering",
    "sequence_classification": "text-classification",
    "image_classification": "image-classification",
    "audio_classification": "audio-classification",
    "forecasting": "time-series-forecasting",
}
LANGUAGE_MODEL_TAGS = {"encoder": "fill-mask", "decoder": "text-generation"}
TEXT_TO_TEXT_TASKS = ("summarization", "translation")  # tags of the same name


def pipeline_tag(head: str, family: str, task: str) -> str | None:
    """Return the Hub's name for what a model does; None where it has none."""
    if head == "language_modelling":
        return LANGUAGE_MODEL_TAGS.get(family)
    if head == "text_to_text":
        return task if task in TEXT_TO_TEXT_TASKS else None
    return PIPELINE_TAGS.get(head)


def to_yaml(entries: Mapping[str, object]) -> str:
    """Return the entries that are known (not None) as YAML, in their order.

    Where a character would hide or reorder others, every one that is not ASCII is an escape.
    """
    known = {name: value for name, value in entries.items() if value is not None}
    text = yaml.safe_dump(known, sort_keys=False, allow_unicode=True)
    return text if printable(text) == text else yaml.safe_dump(known, sort_keys=False)


def require_valid(card: str, repo: str) -> str:
    """Return the text of a card if the Hub's client can read its metadata.

    Raises:
        UserError: the client cannot read it.
    """
    try:
        ModelCard(card, ignore_metadata_errors=False)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{repo}, README.md", f"has metadata that is not valid: {error}") from error
    return card
