"""Languages by any usual code or name, and the scripts that put no blanks between words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

# The languages that a metric treats in its own way, by their ISO 639-1 code: every other code and name in use
# (ISO 639-3 and 639-2, English names, members of a macrolanguage that share its script).
OTHER_NAMES = {
    "en": "eng english",
    "zh": "zho chi cmn yue wuu nan hak gan lzh cn chinese mandarin cantonese",
    "ja": "jpn jp japanese",
    "ko": "kor korean",
    "th": "tha thai",
    "lo": "lao laotian",
    "km": "khm khmer",
    "my": "mya bur burmese myanmar",
}
CODES = {name: code for code, names in OTHER_NAMES.items() for name in (code, *names.split())}
ROMANIZED = {"latn", "latin", "pinyin", "romaji", "romanized"}
# Characters of scripts without blanks: Thai, Lao, Burmese, Khmer, kana, Chinese characters
UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f])"
)
NOTED_SHARE = 0.1  # of the references, above which a metric that cannot split them says so


def code_of(language: str) -> str:
    """Return the ISO 639-1 code of a language that metrics treat in their own way; else "".

    Codes may have a region or a script (zh-CN, zho_Hans, en_US). A romanized language has blanks: it is
    treated as any other.
    """
    first, *rest = re.split(r"[^a-z]+", language.strip().lower())
    code = CODES.get(first, "")
    return "" if code != "en" and ROMANIZED & set(rest) else code


def is_unspaced(text: str) -> bool:
    """Whether most letters of a text belong to a script without blanks."""
    letters = sum(map(str.isalpha, text))
    return 2 * len(UNSPACED.findall(text)) > max(1, letters)


def note_on(texts: Sequence[Sequence[str]], lost: Mapping[str, bool], what: str) -> str | None:
    """Return `what` with the number of references that are lost; None where they are few.

    Args:
        texts: the references of each example.
        lost: for each distinct reference, whether the metric cannot split it.
        what: a clause with a place for "3 of 4 references".
    """
    count = sum(any(lost[text] for text in group) for group in texts)
    if count <= NOTED_SHARE * len(texts):
        return None
    return what.format(f"{count:,} of {len(texts):,} references")
