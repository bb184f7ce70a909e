"""Which entries of a model's config are probabilities of dropout, by their names."""

from __future__ import annotations


def is_dropout(name: str) -> bool:
    """Return whether an entry is one, as `hidden_dropout_prob` and `attn_pdrop` are; no skipped paths."""
    return ("dropout" in name or name.endswith(("pdrop", "drop_rate"))) and "path" not in name
