"""Tiny models of every family that write text, on tokenizers with a word per token."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from pipelines.config.load import run_from_dict
from pipelines.models.build import build_model
from pipelines.models.processor import load_processor
from pipelines.tasks.load import load_task

FAMILIES = ("encoder", "decoder", "encoder_decoder")
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "encoder": (
        "bert",
        {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 29},
    ),
    "decoder": ("gpt2", {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 96}),
    "encoder_decoder": ("t5", {"d_model": 24, "d_kv": 7, "num_layers": 2, "num_heads": 3, "d_ff": 29}),
}
WORDS = "one two three four five six seven eight nine ten eleven twelve translate summarize dr tl : => ."
PAIRS = [
    ("one two three", "four five"),
    ("six", "seven eight nine ten"),
    ("one two three four five six seven", "eight"),
    ("ten nine", "two one two"),
    ("eleven twelve one six three", "five four three two one"),
]


def rows() -> list[dict[str, Any]]:
    return [{"id": f"row-{n}", "source": s, "target": t} for n, (s, t) in enumerate(PAIRS)]


def config(family: str, attention: tuple = (), **where: Any):
    architecture, sizes = SIZES[family]
    return run_from_dict(
        {
            "task": "translation",
            "data": {"generated": {"name": "translation", "train": 5, "validation": 5}},
            "model": {"architecture": architecture, "family": family, "vocab_size": 500, "config": sizes},
            "attention": list(attention),
            "where": where,
        }
    )


def with_model(run, **changes: Any):
    """The run with other entries in its model section."""
    return run.model_copy(update={"model": run.model.model_copy(update=changes)})


@cache
def processor(family: str):
    asked = config(family)
    return load_processor(asked, load_task(asked), [{"source": WORDS, "target": WORDS}] * 5)


def model(family: str, head: str = "text_to_text"):
    """In evaluation mode, with weights so large that every token of the context matters."""
    built = build_model(config(family), head, processor(family), {}).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.dim() > 1:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(1.2 * noise * parameter.shape[-1] ** -0.5)
    return built


def bound(task, family: str):
    task.bind(processor(family), family)
    return task
