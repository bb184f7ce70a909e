"""Token ids of running text, and what a tokenizer puts around them, the same way for every tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from pipelines.errors import UserError

MOST_SPANS = 100  # of one input that can be hidden, as in T5


class TextEncoder:
    """Encodes texts without special tokens; what belongs around them is found by trying.

    Attributes:
        prefix, suffix: ids the tokenizer puts around a text ([CLS] ... [SEP], ... </s>, nothing).
        end: id that ends a text a model writes: the tokenizer's end of sequence, else its last special token.
        begin: ids before the first token of a text that a decoder predicts from its first token on.
        mask: id that hides a token; None where the tokenizer has none.
        sentinels: ids that stand for hidden spans, in order: <extra_id_0> ..., else the mask time and again.
        pad: id to pad with; padding is always masked, so any will do where the tokenizer has none.
        max_len: tokens the model has positions for.
        starts_with_class: the prefix is a class token ([CLS]), which is no beginning of a text.

    Raises:
        UserError: the tokenizer has no token that could end a text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.max_len = tokenizer.model_max_length
        plain = self(["a"])[0]
        whole = tokenizer("a")["input_ids"]
        start = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
        self.prefix, self.suffix = whole[:start], whole[start + len(plain) :]
        no_start = tokenizer.bos_token_id is None
        self.starts_with_class = no_start and self.prefix == [tokenizer.cls_token_id]
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        if end is None:
            kind = type(tokenizer).__name__
            raise UserError("model", "the tokenizer has no end token, so no text could end", kind)
        self.end = end
        bos = tokenizer.bos_token_id
        self.begin = self.prefix or [end if bos is None else bos]
        self.mask = tokenizer.mask_token_id
        self.sentinels = _sentinels(tokenizer) or [self.mask] * MOST_SPANS * (self.mask is not None)
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end

    @property
    def num_special(self) -> int:
        """Tokens around each text."""
        return len(self.prefix) + len(self.suffix)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, whole, without special tokens."""
        return self._encode(texts)["input_ids"]

    def with_bytes(self, texts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Ids of each text and the bytes of UTF-8 each id stands for: those of a text add up to its size.

        White space and whatever else the tokenizer drops counts with the token that follows it.
        """
        encoded = self._encode(texts, return_offsets_mapping=True)
        pairs = zip(texts, encoded["input_ids"], encoded["offset_mapping"])
        return [(ids, _byte_counts(text, [end for _, end in offsets])) for text, ids, offsets in pairs]

    def _encode(self, texts: Sequence[str], **options: Any) -> Any:
        return self._tokenizer(list(texts), add_special_tokens=False, verbose=False, **options)


def _sentinels(tokenizer: Any) -> list[int]:
    vocabulary = tokenizer.get_vocab()
    names = (f"<extra_id_{number}>" for number in range(MOST_SPANS))
    return [vocabulary[name] for name in takewhile(vocabulary.__contains__, names)]


def _byte_counts(text: str, ends: Sequence[int]) -> list[int]:
    """Bytes from the end of one token to that of the next; the last token takes what is left."""
    counts, begin = [], 0
    for place, end in enumerate(ends):
        end = len(text) if place == len(ends) - 1 else max(begin, end)
        counts.append(len(text[begin:end].encode("utf-8", "surrogatepass")))
        begin = end
    return counts
