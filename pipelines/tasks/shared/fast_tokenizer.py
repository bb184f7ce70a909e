"""The fast form of a tokenizer, which knows where in a text each token is."""

from __future__ import annotations

from typing import Any

from pipelines.errors import UserError


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
