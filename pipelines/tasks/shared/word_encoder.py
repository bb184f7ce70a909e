"""Sub-words of inputs that are already split into words, in the same way for every fast tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.tasks.shared.fast_tokenizer import backend_probe, require_fast


class WordEncoder:
    """Encode lists of words with a tokenizer and return the sub-words of each word.

    The tokens around an input ([CLS] ... [SEP], </s>, none), and whether words need a leading space
    (byte-level BPE as in GPT-2 and RoBERTa: "Ġword" is not "word"), are found by encoding an example.

    Raises:
        UserError: the tokenizer is not a fast one, so that the word of a sub-word is unknown.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._backend = require_fast(tokenizer, "the words of its sub-words")
        self.max_len = tokenizer.model_max_length  # tokens the model has positions for
        self._probe = backend_probe(self._backend)
        plain = self._encode([[self._probe]], whole=False)[0].ids
        around = self._encode([[self._probe]], whole=True)[0].ids
        start = next(i for i in range(len(around)) if around[i : i + len(plain)] == plain)
        self.prefix, self.suffix = around[:start], around[start + len(plain) :]
        self._space = " " if self._needs_space() else ""

    @property
    def num_special(self) -> int:
        """Return the number of tokens around each input."""
        return len(self.prefix) + len(self.suffix)

    def __call__(self, inputs: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Return the sub-word ids of each word of each input; a word may have none (variation selectors)."""
        if self._space:
            inputs = [[self._space + word if word else word for word in words] for words in inputs]
        return [_by_word(encoding, len(words)) for encoding, words in zip(self._encode(inputs), inputs)]

    def _encode(self, inputs: Sequence[Sequence[str]], whole: bool = False) -> list[Any]:
        # A tokenizer file may turn on truncation or padding; either would change the words.
        self._backend.no_truncation()
        self._backend.no_padding()
        return self._backend.encode_batch(inputs, is_pretokenized=True, add_special_tokens=whole)

    def _needs_space(self) -> bool:
        """Return whether a second word of a list is encoded differently from the same word in a text."""
        word = self._probe
        running = self._backend.encode(f"{word} {word}", add_special_tokens=False).ids
        apart, spaced = self._encode([[word, word], [word, f" {word}"]])
        return apart.ids != running and bool(spaced.ids == running)


def _by_word(encoding: Any, num_words: int) -> list[list[int]]:
    words: list[list[int]] = [[] for _ in range(num_words)]
    for token, word in zip(encoding.ids, encoding.word_ids):
        if word is not None:
            words[word].append(token)
    return words
