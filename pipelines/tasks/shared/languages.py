"""The languages of a tokenizer: codes around a text (NLLB, mBART, M2M100), marks in it (Marian, MADLAD)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from pipelines.errors import UserError
from pipelines.metrics.languages import NAMES

CODE = re.compile(r"__(\w+?)__|([a-z]{2,3}_[A-Z][A-Za-z]{1,3})")  # __de__ of M2M100; de_DE, deu_Latn
MARK = re.compile(r">>\w+<<|<2\w+>")  # begins a source, and names the language to write: Marian, MADLAD
SHOWN = 5  # codes that a message lists
SHOWN_LEN = 40  # characters of a source


def language_codes(tokenizer: Any) -> list[str]:
    """Return the languages of a tokenizer that marks each text with one; none for other tokenizers."""
    if not hasattr(tokenizer, "src_lang"):
        return []
    tokens = [*tokenizer.all_special_tokens, *getattr(tokenizer, "lang_code_to_token", {}).values()]
    return sorted({match[1] or match[2] for match in filter(None, map(CODE.fullmatch, tokens))})


def set_languages(tokenizer: Any, codes: Sequence[str], source: str, target: str) -> None:
    """Set what language a tokenizer marks its texts and its targets with.

    Args:
        codes: those of the tokenizer.

    Raises:
        UserError: a language is not set, or the tokenizer has no such code.
    """
    stated = {"task.source_language": source, "task.target_language": target}
    missing = [key for key, language in stated.items() if not language]
    if missing:
        what = "the tokenizer marks every text with its language, and none is set"
        raise UserError(" and ".join(missing), what, accepted=f"codes such as {_listed(codes)}")
    for key, language in stated.items():
        if language not in codes:
            near = near_codes(language, codes)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {_listed(codes)}"
            raise UserError(key, "the tokenizer has no such language code", language, hint)
    tokenizer.src_lang, tokenizer.tgt_lang = source, target


def source_marks(tokenizer: Any) -> list[str]:
    """Return the marks of a tokenizer by which a source names the language to write; none if there is one."""
    marks = sorted(filter(MARK.fullmatch, tokenizer.get_vocab()))
    return marks if len(marks) > 1 else []


def require_mark(source: str, marks: Sequence[str], target: str) -> None:
    """Refuse a source that does not begin with one of the marks, where a model needs one.

    Args:
        source: with the prefix of the task.
        target: the language of the task, if it is set.

    Raises:
        UserError: it begins with none of them.
    """
    if not marks or source.startswith(tuple(marks)):
        return
    by_code = {mark.strip("<>").removeprefix("2"): mark for mark in marks}
    [first, *_] = [by_code[code] for code in near_codes(target, list(by_code)) if target] or marks
    what = "the model writes several languages, and the source does not begin with a mark of one"
    raise UserError("task.prefix", what, source[:SHOWN_LEN], f'such as "{first} "; it has {_listed(marks)}')


def near_codes(language: str, codes: Sequence[str]) -> list[str]:
    """Return the codes that a user may mean: those of the language, else those of similar spelling."""
    primary = re.split("[-_ ]", language.strip())[0].lower()
    names = next((names for names in NAMES if primary in names), frozenset({primary}))
    of_language = [code for code in codes if code.split("_")[0].lower() in names]
    return of_language or difflib.get_close_matches(language, codes, 3)


def _listed(codes: Sequence[str]) -> str:
    more = f" and {len(codes) - SHOWN} more" if len(codes) > SHOWN else ""
    return ", ".join(codes[:SHOWN]) + more
