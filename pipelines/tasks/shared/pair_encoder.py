"""One text or two as a model's input, knowing which characters each token stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.errors import UserError


@dataclass(frozen=True)
class Tokens:
    """A tokenized text: token i is `ids[i]` and stands for the characters `begins[i]:ends[i]`.

    Places count Python characters (code points) of the text as it was given. A token of nothing but
    white space stands for no character (`begins[i] == ends[i]`).
    """

    ids: list[int]
    begins: list[int]
    ends: list[int]


class PairEncoder:
    """Encodes texts with a fast tokenizer and joins them in the tokenizer's own format.

    What stands around one text (`[CLS] a [SEP]`) and around and between two (`[CLS] a [SEP] b [SEP]`) is
    found by trying. Special tokens that are written out in a text ("[SEP]") are text, never structure.

    Raises:
        UserError: the tokenizer has no fast form, which alone knows the places of its tokens.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        if self._backend is None:
            what = "the tokenizer has no fast form, so the places of its tokens are unknown"
            raise UserError("model", what, type(tokenizer).__name__)
        self.max_len = tokenizer.model_max_length  # tokens the model has positions for
        self._clear()
        self.before, _, self.after = _around(self._backend.encode("a"), 1)
        pair = self._backend.encode("a", "b")
        self.before_first, self.between, self.after_second = _around(pair, 2)
        second = len(pair.ids) - len(self.after_second) - sum(n == 1 for n in pair.sequence_ids)
        has_two = pair.type_ids == [int(place >= second) for place in range(len(pair.ids))]
        self.has_segments = has_two and "token_type_ids" in tokenizer.model_input_names
        self._structure = {*self.before_first, *self.between, *self.after_second}
        self._unknown = tokenizer.unk_token_id

    @property
    def num_special(self) -> int:
        """Tokens around and between two texts."""
        return len(self.before_first) + len(self.between) + len(self.after_second)

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text, without anything around them."""
        self._clear()
        self._backend.encode_special_tokens = True
        try:
            encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        finally:
            self._backend.encode_special_tokens = False
        return [self._tokens(text, encoding) for text, encoding in zip(texts, encodings)]

    def _clear(self) -> None:
        # A tokenizer file may ask for truncation or padding; either would change the text.
        self._backend.no_truncation()
        self._backend.no_padding()

    def _tokens(self, text: str, encoding: Any) -> Tokens:
        ids = encoding.ids
        if self._unknown is not None:  # unigram models find "</s>" among their own pieces
            ids = [self._unknown if token in self._structure else token for token in ids]
        nexts = [begin for begin, _ in encoding.offsets[1:]] + [len(text)]
        places = [_place(text, *offsets, until) for offsets, until in zip(encoding.offsets, nexts)]
        return Tokens(ids, [begin for begin, _ in places], [end for _, end in places])

    def join(self, first: Sequence[int], second: Sequence[int] | None = None) -> tuple[list[int], int]:
        """Ids of one text or of two with the special tokens, and where the second segment begins."""
        if second is None:
            ids = [*self.before, *first, *self.after]
            return ids, len(ids)
        ids = [*self.before_first, *first, *self.between]
        return [*ids, *second, *self.after_second], len(ids)


def _around(encoding: Any, num_texts: int) -> tuple[list[int], list[int], list[int]]:
    """Ids before the first text, between the two, and after the last."""
    places = [[i for i, text in enumerate(encoding.sequence_ids) if text == n] for n in range(num_texts)]
    between = encoding.ids[places[0][-1] + 1 : places[-1][0]] if num_texts == 2 else []
    return encoding.ids[: places[0][0]], between, encoding.ids[places[-1][-1] + 1 :]


def _place(text: str, begin: int, end: int, until: int) -> tuple[int, int]:
    """The characters of a token without white space around, and with those after it that no token has.

    Byte-level and sentence-piece tokens carry the blank before a word. What a tokenizer strips (combining
    accents, joiners) or composes (parts of a Hangul syllable) it leaves to no token at all, and an answer
    would lose it; so it belongs to the token that ends before it, up to `until`, where the next one begins.
    """
    while begin < end and text[begin].isspace():
        begin += 1
    while begin < end and text[end - 1].isspace():
        end -= 1
    while begin < end < until and not text[end].isspace():
        end += 1
    return begin, end
