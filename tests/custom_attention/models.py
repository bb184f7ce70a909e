"""The tiny models of the battery, as the tests import them."""

from custom_attention.battery.models import (
    CAUSAL,
    ENCODER_DECODER,
    ENCODERS,
    EOS,
    FAMILIES,
    GENERATING,
    PAD,
    VOCAB,
    Padded,
    logits,
    nudge,
    padded,
    tiny,
    unpadded,
)

__all__ = [
    "CAUSAL",
    "ENCODERS",
    "ENCODER_DECODER",
    "EOS",
    "FAMILIES",
    "GENERATING",
    "PAD",
    "VOCAB",
    "Padded",
    "logits",
    "nudge",
    "padded",
    "tiny",
    "unpadded",
]
