"""The settings of a run that takes seconds: a tiny BERT on generated sentences."""

from __future__ import annotations

from typing import Any

MODEL: dict[str, Any] = {
    "architecture": "bert",
    "family": "encoder",
    "vocab_size": 300,
    "config": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    },
}


def tiny_run(train: int, held_out: int) -> dict[str, Any]:
    """Return the settings of a run with a checkpoint every second step.

    Args:
        train: examples to train on.
        held_out: examples of the validation and of the test split.
    """
    return {
        "task": "ner",
        "data": {"generated": {"name": "ner", "train": train, "validation": held_out, "test": held_out}},
        "model": MODEL,
        "batch_size": 8,
        "checkpoint_every_steps": 2,
        "device": "cpu",
    }
