"""The fast form of a tokenizer, which knows where in a text each token is."""

from __future__ import annotations

from typing import Any

from pipelines.errors import UserError
from pipelines.tasks.shared.probe import probe


def require_fast(tokenizer: Any, unknown: str) -> Any:
    """Return the backend of a fast tokenizer.

    Args:
        unknown: what only a fast one knows, as the subject of a clause.

    Raises:
        UserError: the tokenizer has no fast form.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        what = f"the tokenizer has no fast form, so {unknown} are unknown"
        fix = "name a model whose tokenizer has one (a tokenizer.json), or take a task that writes"
        raise UserError("model", what, type(tokenizer).__name__, fix)
    return backend


def backend_probe(backend: Any) -> str:
    """Return a text of which the backend of a fast tokenizer makes a token."""
    words = backend.get_vocab(with_added_tokens=False)
    specials = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    known = {word: at for word, at in words.items() if word not in specials}
    return probe(lambda text: list(backend.encode(text, add_special_tokens=False).ids), known)
