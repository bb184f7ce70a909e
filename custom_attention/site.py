"""One attention module of a model: its place and its sizes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """One attention module of a model, as observed in one forward.

    Attributes:
        name: path of the module, such as "bert.encoder.layer.0.attention.self".
        index: 0 .. num_sites - 1 in the order of execution.
        num_sites: attention modules of the model, with or without a variant.
        num_heads, num_key_heads: query heads, and key/value heads (fewer in grouped-query attention).
        head_dim: length of one query vector of one head.
        scale: the factor of the model on query @ key, 1.0 for T5.
        is_cross: all keys come from other hidden states than the queries.
        is_causal: a query sees no later key.
        stack: "encoder" or "decoder".
        layer: index of the layer within its stack, from 0.
        hidden_size, key_hidden_size: length of a hidden state that the queries, and the keys, are made from;
            0 where none was found.
        query_input, key_input: the arguments of the module that hold these states; "" where none was found.
        more_keys_input: at merged attention, the argument that holds the states of the further keys, which
            stand behind the queries' own; "" elsewhere.
        has_own_keys: each query has a key of its own: not at cross-attention, nor where keys are pooled.
        projection: path of the linear layer that reads the heads' output; "" where none was found.
        projected_size: length of its output.
        position_table: path of the table of positions whose rows this stack adds to its embeddings; "" where
            none was found.
        has_position_bias: the model adds a position bias of its own to the scores.
    """

    name: str
    index: int
    num_sites: int
    num_heads: int
    num_key_heads: int
    head_dim: int
    scale: float
    is_cross: bool
    is_causal: bool
    stack: str = "encoder"
    layer: int = 0
    hidden_size: int = 0
    key_hidden_size: int = 0
    query_input: str = ""
    key_input: str = ""
    more_keys_input: str = ""
    has_own_keys: bool = True
    projection: str = ""
    projected_size: int = 0
    position_table: str = ""
    has_position_bias: bool = False

    @property
    def kind(self) -> str:
        """The keys of a query: "self", its own stack's; "cross", another's; "merged", both in one call."""
        if self.is_cross:
            return "cross"
        return "merged" if self.more_keys_input else "self"
