"""The check that the inputs of a task fit the model."""

from __future__ import annotations

from pipelines.errors import UserError


def require_room(max_len: int, *, most: int, least: int, what: str) -> None:
    """Refuse an option `max_len` that does not fit the model.

    Args:
        max_len: tokens of an input, with the special tokens.
        most: tokens that the model has positions for.
        least: tokens of the shortest input that still holds `what`, such as "a text".

    Raises:
        UserError: it is more than `most`, or less than `least`.
    """
    if max_len > most:
        accepted = f"at most {most}, which is all the model has positions for"
        raise UserError("task.max_len", "is longer than the model's inputs", max_len, accepted)
    if max_len < least:
        raise UserError("task.max_len", f"has no room for {what}", max_len, f"at least {least}")
