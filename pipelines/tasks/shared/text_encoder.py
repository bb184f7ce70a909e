"""Token ids of texts and the special tokens around them, in the same way for every tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any

from pipelines.errors import UserError
from pipelines.tasks.shared.probe import probe

MOST_SPANS = 100  # that can be hidden in one input, as in T5


class TextEncoder:
    """Encode texts without special tokens; those around a text are found by encoding an example.

    A target may have another vocabulary than a text that is read (Marian), and other special tokens (NLLB).

    Attributes:
        prefix, suffix: ids that the tokenizer puts around a text ([CLS] ... [SEP], ... </s>, none).
        space: what a text that continues another begins with: " " if the tokenizer adds no space itself.
        end: id that ends a generated text: the tokenizer's end of sequence, else its separator.
        begin: ids before a text of which a decoder predicts every token.
        mask: id that hides a token; None if the tokenizer has none.
        sentinels: ids that replace hidden spans, in order: <extra_id_0> ..., else the mask for each.
        pad: id of padding; any id if the tokenizer has none, because padding is always masked.
        max_len: tokens that the model has positions for.
        structural: ids of special tokens that mean no language.

    Raises:
        UserError: the tokenizer has no token that can end a text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.max_len = tokenizer.model_max_length
        words = {
            word: at for word, at in tokenizer.get_vocab().items() if at not in tokenizer.all_special_ids
        }
        self._probe = probe(lambda text: self([text])[0], words)
        self.prefix, self.suffix = _around(self([self._probe])[0], tokenizer(self._probe)["input_ids"])
        self.space = " " if self._needs_space() else ""
        self.structural = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id}
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        if end is None:
            kind = type(tokenizer).__name__
            fix = "set eos_token in its tokenizer_config.json, or name another tokenizer as model.tokenizer"
            raise UserError("model", "the tokenizer has no end token, so no text could end", kind, fix)
        self.end = end
        bos = tokenizer.bos_token_id
        self.begin = self.prefix or [end if bos is None else bos]
        self.mask = tokenizer.mask_token_id
        self.sentinels = _sentinels(tokenizer) or [self.mask] * MOST_SPANS * (self.mask is not None)
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end

    @cached_property
    def around_target(self) -> tuple[list[int], list[int]]:
        """Return the ids that the tokenizer puts before and after a target."""
        whole = self._tokenizer(text_target=self._probe)["input_ids"]
        return _around(self.targets([self._probe])[0], whole)

    @property
    def num_special(self) -> int:
        """Return the number of tokens around each text."""
        return len(self.prefix) + len(self.suffix)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without special tokens and truncation."""
        return self._encode(texts)["input_ids"] if texts else []  # tokenizers refuse an empty list

    def targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text as one to write, without special tokens and truncation."""
        if not texts:
            return []
        encoded = self._tokenizer(text_target=list(texts), add_special_tokens=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def with_bytes(self, texts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Return the ids of each text and the UTF-8 bytes of each id; the bytes add up to the text's size.

        White space and other characters that the tokenizer drops count with the token after them.
        """
        encoded = self._encode(texts, return_offsets_mapping=True)
        pairs = zip(texts, encoded["input_ids"], encoded["offset_mapping"])
        return [(ids, _byte_counts(text, [end for _, end in offsets])) for text, ids, offsets in pairs]

    def _needs_space(self) -> bool:
        """Return whether the tokenizer cuts a continued text like one that begins with a space."""
        word = self._probe
        first, running, spaced = self([word, f"{word} {word}", f" {word}"])
        return running != [*first, *first] and running == [*first, *spaced]

    def _encode(self, texts: Sequence[str], **options: Any) -> Any:
        return self._tokenizer(list(texts), add_special_tokens=False, verbose=False, **options)


def _around(plain: list[int], whole: list[int]) -> tuple[list[int], list[int]]:
    """Return the special tokens before and after a text."""
    start = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    return whole[:start], whole[start + len(plain) :]


def _sentinels(tokenizer: Any) -> list[int]:
    """Return the ids of <extra_id_0>, <extra_id_1> ..., as far as the vocabulary has them."""
    vocabulary = tokenizer.get_vocab()
    names = (f"<extra_id_{number}>" for number in range(MOST_SPANS))
    return [vocabulary[name] for name in takewhile(vocabulary.__contains__, names)]


def _byte_counts(text: str, ends: Sequence[int]) -> list[int]:
    """Return the bytes from the end of one token to that of the next; the last token takes the rest."""
    counts, begin = [], 0
    for place, end in enumerate(ends):
        end = len(text) if place == len(ends) - 1 else max(begin, end)
        counts.append(len(text[begin:end].encode("utf-8", "surrogatepass")))
        begin = end
    return counts
