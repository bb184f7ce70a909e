"""What a run may ask of the search for a text besides its beams and its longest text."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from pipelines.errors import UserError
from pipelines.registry.option_types import Mistake

COUNT, FACTOR = "a whole number, 0 or more", "a number above 0"
PREFERENCES: Mapping[str, str] = {  # arguments of transformers' `generate` -> their values
    "min_length": COUNT,
    "min_new_tokens": COUNT,
    "no_repeat_ngram_size": COUNT,
    "encoder_no_repeat_ngram_size": COUNT,
    "repetition_penalty": FACTOR,
    "encoder_repetition_penalty": FACTOR,
    "early_stopping": "true, false or never",
}
OF_TASK: Mapping[str, str] = {  # those that the task has an option for
    "num_beams": "num_beams",
    "length_penalty": "length_penalty",
    "max_new_tokens": "max_new_tokens",
    "max_length": "max_new_tokens",
}
SAMPLING = ("do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff")
# Those that mean the same where a decoder has its source, and padding before it, in front of the text.
OF_DECODERS = ("min_new_tokens", "no_repeat_ngram_size", "early_stopping")


def mistake(stated: Mapping[str, Any], options: Mapping[str, Any]) -> Mistake | None:
    """Return the first mistake in the option `generation` of a writing task.

    Args:
        options: the other options of the task; those with mistakes of their own are missing.
    """
    for name, value in stated.items():
        wrong = _wrong(name, value)
        if wrong is not None:
            return wrong
    if "early_stopping" in stated and options.get("num_beams") == 1:
        what = "is about several beams, and task.num_beams is 1"
        return Mistake("early_stopping", what, None, "leave it out, or set task.num_beams")
    longest = options.get("max_new_tokens") or options.get("max_target_len")
    for name, more in (("min_new_tokens", 0), ("min_length", 1)):  # the length counts the start token
        if longest is not None and stated.get(name, 0) > longest + more:
            what = "is more than the model may write (task.max_new_tokens or max_target_len)"
            return Mistake(name, what, stated[name], f"at most {longest + more}")
    return None


def _wrong(name: str, value: object) -> Mistake | None:
    if name in OF_TASK:
        return Mistake(name, "is an option of the task", value, f"set task.{OF_TASK[name]}")
    if name in SAMPLING:
        what = "evaluation does not sample, so that scores can be repeated"
        return Mistake(name, what, value, "leave it out")
    if name not in PREFERENCES:
        close = difflib.get_close_matches(str(name), PREFERENCES, 3)
        hint = f"did you mean {', '.join(close)}?" if close else f"accepted: {', '.join(PREFERENCES)}"
        return Mistake(name, "is no preference of the search", None, hint)
    if not _CHECKS[PREFERENCES[name]](value):
        return Mistake(name, "has no such value", value, PREFERENCES[name])
    return None


def require_family(stated: Mapping[str, Any], family: str) -> None:
    """Refuse preferences that would count the source of a decoder, and its padding, as written text.

    Raises:
        UserError: one is among them.
    """
    wrong = [name for name in stated if name not in OF_DECODERS]
    if family == "decoder" and wrong:
        what = "would count the source of a decoder as written"
        fix = f"a decoder accepts {', '.join(OF_DECODERS)}"
        raise UserError(f"task.generation.{wrong[0]}", what, stated[wrong[0]], fix)


def describe_set_aside(found: Mapping[str, Any]) -> str:
    """Return a sentence that names the preferences of a checkpoint that a run does not use."""
    short = {name: "" if isinstance(value, list | dict) else f" {value}" for name, value in found.items()}
    names = ", ".join(name + value for name, value in short.items())
    return f"the checkpoint's own search is set aside ({names}): texts are written as the run says"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    COUNT: lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    FACTOR: lambda value: _is_number(value) and 0 < value < float("inf"),
    PREFERENCES["early_stopping"]: lambda value: isinstance(value, bool) or value == "never",
}
