"""Lines of a YAML file that explain themselves: a setting, its value and its meaning."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args, get_origin

COMMENT_COLUMN = 100  # a longer line has its comment above
NOT_WORDS = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")


def line(name: str, value: Any, comment: str | None) -> Iterator[str]:
    """Yield a setting with its comment beside it, or above it where the line would be long."""
    setting = f"{in_yaml(name)}: {in_yaml(value)}"
    beside = f"{setting}  # {comment}" if comment else setting
    yield from [beside] if len(beside) <= COMMENT_COLUMN else [f"# {comment}", setting]


def in_yaml(value: Any) -> str:
    """Return a value in YAML's flow style, with words unquoted."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{in_yaml(key)}: {in_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(in_yaml, value)) + "]"
    if isinstance(value, float) and "e" in repr(value):  # 5.0e-05: YAML 1.1 reads 5e-05 as text
        digits, _, power = repr(value).partition("e")
        return f"{digits if '.' in digits else digits + '.0'}e{power}"
    if not isinstance(value, str):
        return json.dumps(value)
    plain = value.replace("_", "").replace("/", "").replace(".", "")
    is_word = plain.isascii() and plain.isalnum() and value[0].isalpha() and value.lower() not in NOT_WORDS
    return value if is_word else json.dumps(value, ensure_ascii=False)


def with_choices(meaning: str, hint: object) -> str:
    """Return a meaning with the words that are accepted, where those it does not name are a few."""
    choices = [str(choice) for choice in _choices(hint) if isinstance(choice, str)]
    if not choices or all(choice in meaning for choice in choices):
        return meaning
    listed = f"one of {', '.join(choices)}"
    return f"{meaning}; {listed}" if meaning else listed


def _choices(hint: object) -> Iterator[object]:
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for inner in get_args(hint):
            yield from _choices(inner)


def explained(comments: Iterable[str]) -> Iterator[str]:
    """Yield comments as lines of a list."""
    for place, comment in enumerate(comments):
        yield from ["#"] * (place == 0)
        for number, text in enumerate(textwrap.wrap(" ".join(comment.split()), COMMENT_COLUMN)):
            yield f"#   {text}" if number else f"# - {text}"
