"""One text or two as the input of a model, with the characters of each token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.tasks.shared.fast_tokenizer import backend_probe, require_fast


@dataclass(frozen=True)
class Tokens:
    """A tokenized text: token i is `ids[i]` and covers the characters `begins[i]:ends[i]`.

    Offsets count Python characters (code points) of the given text. A token of white space alone covers
    no character (`begins[i] == ends[i]`).
    """

    ids: list[int]
    begins: list[int]
    ends: list[int]


class PairEncoder:
    """Encode texts with a fast tokenizer and join them in the tokenizer's own format.

    The tokens around one text (`[CLS] a [SEP]`) and around and between two (`[CLS] a [SEP] b [SEP]`) are
    found by encoding an example. A special token written in a text ("[SEP]") is encoded as text.

    Raises:
        UserError: the tokenizer is not a fast one, so that the offsets of its tokens are unknown.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._backend = require_fast(tokenizer, "the offsets of its tokens")
        self.max_len = tokenizer.model_max_length  # tokens the model has positions for
        self._clear()
        text = backend_probe(self._backend)
        self.before, _, self.after = _around(self._backend.encode(text), 1)
        pair = self._backend.encode(text, text)
        self.before_first, self.between, self.after_second = _around(pair, 2)
        second = len(pair.ids) - len(self.after_second) - sum(n == 1 for n in pair.sequence_ids)
        has_two = pair.type_ids == [int(place >= second) for place in range(len(pair.ids))]
        self.has_segments = has_two and "token_type_ids" in tokenizer.model_input_names
        self._structure = {*self.before_first, *self.between, *self.after_second}
        self._unknown = tokenizer.unk_token_id

    @property
    def num_special(self) -> int:
        """Return the number of tokens around and between two texts."""
        return len(self.before_first) + len(self.between) + len(self.after_second)

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the tokens of each text, without special tokens."""
        self._clear()
        self._backend.encode_special_tokens = True
        try:
            encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        finally:
            self._backend.encode_special_tokens = False
        return [self._tokens(text, encoding) for text, encoding in zip(texts, encodings)]

    def _clear(self) -> None:
        # A tokenizer file may turn on truncation or padding; either would change the tokens.
        self._backend.no_truncation()
        self._backend.no_padding()

    def _tokens(self, text: str, encoding: Any) -> Tokens:
        ids = encoding.ids
        if self._unknown is not None:  # unigram models find "</s>" among their own pieces
            ids = [self._unknown if token in self._structure else token for token in ids]
        next_begins = [begin for begin, _ in encoding.offsets[1:]] + [len(text)]
        offsets = [
            _trimmed(text, begin, end, next_begin)
            for (begin, end), next_begin in zip(encoding.offsets, next_begins)
        ]
        return Tokens(ids, [begin for begin, _ in offsets], [end for _, end in offsets])

    def join(self, first: Sequence[int], second: Sequence[int] | None = None) -> tuple[list[int], int]:
        """Return the ids of one text or two with special tokens, and the position where the second begins."""
        if second is None:
            ids = [*self.before, *first, *self.after]
            return ids, len(ids)
        ids = [*self.before_first, *first, *self.between]
        return [*ids, *second, *self.after_second], len(ids)


def _around(encoding: Any, num_texts: int) -> tuple[list[int], list[int], list[int]]:
    """Return the ids before the first text, between the two, and after the last."""
    places = [[i for i, text in enumerate(encoding.sequence_ids) if text == n] for n in range(num_texts)]
    between = encoding.ids[places[0][-1] + 1 : places[-1][0]] if num_texts == 2 else []
    return encoding.ids[: places[0][0]], between, encoding.ids[places[-1][-1] + 1 :]


def _trimmed(text: str, begin: int, end: int, next_begin: int) -> tuple[int, int]:
    """Return the characters of a token without white space around, and with those after it of no token.

    Byte-level and sentence-piece tokens include the space before a word. Characters that a tokenizer strips
    (combining accents, joiners) or composes (parts of a Hangul syllable) belong to no token, and an answer
    would lose them: they are added to the token before them, up to where the next token begins.
    """
    while begin < end and text[begin].isspace():
        begin += 1
    while begin < end and text[end - 1].isspace():
        end -= 1
    while begin < end < next_begin and not text[end].isspace():
        end += 1
    return begin, end
