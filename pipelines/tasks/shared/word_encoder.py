"""Sub-words of inputs that are split into words already, the same way for every fast tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.errors import UserError


class WordEncoder:
    """Encodes lists of words with a tokenizer, keeping track of which sub-words belong to which word.

    What the tokenizer puts around an input ([CLS] ... [SEP], </s>, nothing) and whether its words need a
    leading blank (byte-level BPE as in GPT-2 and RoBERTa: "Ġword" is not "word") is found by trying.

    Raises:
        UserError: the tokenizer has no fast form, which alone knows the words of its sub-words.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            kind = type(tokenizer).__name__
            raise UserError(
                "model", "the tokenizer has no fast form, so the words of its sub-words are unknown", kind
            )
        self._backend = backend
        self.max_len = tokenizer.model_max_length  # tokens the model has positions for
        probe = self._encode([["a"]], whole=False)[0].ids
        around = self._encode([["a"]], whole=True)[0].ids
        start = next(i for i in range(len(around)) if around[i : i + len(probe)] == probe)
        self.prefix, self.suffix = around[:start], around[start + len(probe) :]
        self._blank = " " if self._needs_blank() else ""

    @property
    def num_special(self) -> int:
        """Tokens around each input."""
        return len(self.prefix) + len(self.suffix)

    def __call__(self, inputs: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Sub-word ids of each word of each input; a word may have none (variation selectors)."""
        if self._blank:
            inputs = [[self._blank + word if word else word for word in words] for words in inputs]
        return [_by_word(encoding, len(words)) for encoding, words in zip(self._encode(inputs), inputs)]

    def _encode(self, inputs: Sequence[Sequence[str]], whole: bool = False) -> list[Any]:
        # A tokenizer file may ask for truncation or padding; either would change the words.
        self._backend.no_truncation()
        self._backend.no_padding()
        return self._backend.encode_batch(inputs, is_pretokenized=True, add_special_tokens=whole)

    def _needs_blank(self) -> bool:
        """Whether a second word given alone is encoded otherwise than the same word in running text."""
        running = self._backend.encode("a a", add_special_tokens=False).ids
        return self._encode([["a", "a"]])[0].ids != running and self._encode([["a", " a"]])[0].ids == running


def _by_word(encoding: Any, num_words: int) -> list[list[int]]:
    words: list[list[int]] = [[] for _ in range(num_words)]
    for token, word in zip(encoding.ids, encoding.word_ids):
        if word is not None:
            words[word].append(token)
    return words
