"""A text by which it is found how a tokenizer surrounds texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

USUAL = "a"


def probe(encode: Callable[[str], Sequence[int]], vocabulary: Mapping[str, int]) -> str:
    """Return a text that has a token: "a", else the first entry of the vocabulary that has.

    A tokenizer without an unknown token drops what it does not know: Latin letters, if it was trained on
    Chinese alone, or lower case, if it was trained on proteins.

    Args:
        encode: returns the ids of a text, without special tokens.
        vocabulary: without special tokens.
    """
    texts = [USUAL, *sorted(vocabulary, key=vocabulary.__getitem__)]
    return next((text for text in texts if encode(text)), USUAL)
