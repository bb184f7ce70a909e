"""Check the sizes among the entries of `model.config`, as far as their names tell; the model checks the rest.

Names of transformers' configs are known here without importing it, so that `attnlab validate` tells them.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.config.model_entries import known_entries
from pipelines.config.yaml_source import Document
from pipelines.errors import UserError

LAYERS = [
    "num_hidden_layers",
    "num_layers",
    "num_decoder_layers",
    "n_layer",
    "n_layers",
    "encoder_layers",
    "decoder_layers",
]
HEADS = [
    "num_attention_heads",
    "num_key_value_heads",
    "num_heads",
    "n_head",
    "n_heads",
    "encoder_attention_heads",
    "decoder_attention_heads",
]
WIDTHS = [
    "hidden_size",
    "embedding_size",
    "intermediate_size",
    "hidden_dim",
    "dim",
    "d_model",
    "d_kv",
    "d_ff",
    "n_embd",
    "n_positions",
    "head_dim",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "max_position_embeddings",
    "type_vocab_size",
    "num_channels",
]
SIDES = ["image_size", "patch_size"]  # pixels: one number, or the height and the width
MOST = dict.fromkeys((*LAYERS, *HEADS), 10000) | dict.fromkeys(WIDTHS, 2**24) | dict.fromkeys(SIDES, 2**16)
# A width and a number of heads that divides it. Decoders may state head_dim apart, and then their hidden_size
# need not be a multiple.
DIVIDED = (
    ("n_embd", "n_head"),
    ("d_model", "encoder_attention_heads"),
    ("d_model", "decoder_attention_heads"),
)
DIVIDED_IN_ENCODERS = (("hidden_size", "num_attention_heads"), ("dim", "n_heads"))


def wrong_sizes(document: Document) -> Iterator[UserError]:
    """Yield an error for each size that no model can have, and for heads that do not divide their width."""
    entries = document.get(("model", "config"))
    if not isinstance(entries, dict):
        return
    sizes = {name: value for name, value in entries.items() if name in MOST and type(value) is int}
    wrong = {name: value for name, value in sizes.items() if not 1 <= value <= MOST[name]}
    for name, value in wrong.items():
        what = f"model.config.{name}: no model has this size"
        accepted = f"accepted: 1 to {MOST[name]:,}"
        yield UserError(document.place(("model", "config", name)).where, what, value, accepted)
    for name in (name for name in SIDES if isinstance(entries.get(name), list)):
        sides = entries[name]
        if len(sides) != 2 or not all(type(side) is int and 1 <= side <= MOST[name] for side in sides):
            what = f"model.config.{name}: no image has this size"
            accepted = f"accepted: one number or two (height and width), each 1 to {MOST[name]:,}"
            yield UserError(document.place(("model", "config", name)).where, what, sides, accepted)
    known = known_entries(document)
    defaults = {name: known[name].default for name in known if name in MOST}
    own_dim = entries.get("head_dim", defaults.get("head_dim")) is not None
    is_encoder = document.get(("model", "family")) == "encoder" and not own_dim
    sizes |= {name: value for name, value in defaults.items() if type(value) is int and name not in entries}
    for width, heads in (*DIVIDED, *(DIVIDED_IN_ENCODERS if is_encoder else ())):
        are_known = width in sizes and heads in sizes and not wrong.keys() & {width, heads}
        if are_known and entries.keys() & {width, heads} and sizes[width] % sizes[heads]:
            what = (
                f"model.config.{width} is {sizes[width]}, which is not a multiple of {heads} ({sizes[heads]})"
            )
            accepted = "each head takes an equal part of it"
            stated = heads if heads in entries else width
            yield UserError(document.place(("model", "config", stated)).where, what, accepted=accepted)
