"""The jobs of the training part: usual models from scratch at usual lengths, on generated words.

Nothing is downloaded. The words mean nothing, so that only speed and memory are of interest; their number
makes a vocabulary as large as that of a pretrained model, since its embeddings and logits cost time.
"""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.config.load import RunConfig, run_from_dict
from scripts.gpu_check.scale import Scale

VOCABULARY = 16_000
LETTERS = "abcdefghijklmnopqrst"
SHORTEST = 0.25  # of the longest input, where lengths differ


@dataclass(frozen=True)
class Job:
    """One model and the shape of its inputs; `target_len` is of an encoder-decoder.

    Attributes:
        peak_share: the share of the card's stated peak that is claimed; None: no claim is made.
    """

    name: str
    task: str
    family: str
    architecture: str
    config: dict[str, Any]
    batch_size: int
    length: int
    target_len: int | None = None
    lengths_differ: bool = True
    rows: int = 512
    vocabulary: int = VOCABULARY
    peak_share: float | None = None

    def settings(self, folder: Path, scale: Scale) -> RunConfig:
        """Return the configuration of the job; its rows are written into `folder`."""
        path = folder / "train.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in self._rows()), encoding="utf-8")
        return run_from_dict(
            {
                "task": {"name": self.task, **self._limits()},
                "data": {"train": str(path), "validation": str(path), "max_validation_examples": 4},
                "model": {
                    "architecture": self.architecture,
                    "family": self.family,
                    "vocab_size": self.vocabulary,
                    "config": self.config,
                },
                "batch_size": self.batch_size,
                "max_steps": 1000,
                "precision": scale.precision,
                "max_tokens": self.batch_size * (self.length + (self.target_len or 0)),
                "device": scale.device.type,
            }
        )

    def _limits(self) -> dict[str, int]:
        if self.target_len is not None:
            return {"max_source_len": self.length, "max_target_len": self.target_len}
        if self.task == "language_modelling":
            return {"max_len": self.length, "overlap": 1}
        return {"max_len": self.length}

    def _rows(self) -> list[dict[str, str]]:
        draw = random.Random(0)
        words = ["".join(letters) for letters in itertools.product(LETTERS, repeat=4)]
        draw.shuffle(words)
        words = words[: self.vocabulary]

        def text(longest: int) -> str:
            shortest = round(longest * SHORTEST) if self.lengths_differ else longest
            return " ".join(draw.choices(words, k=draw.randint(shortest, longest)))

        if self.target_len is not None:
            return [{"source": text(self.length), "target": text(self.target_len)} for _ in range(self.rows)]
        if self.task == "language_modelling":
            return [{"text": text(self.length)} for _ in range(self.rows)]
        return [{"text": text(self.length), "label": draw.choice(("yes", "no"))} for _ in range(self.rows)]


def _encoder(
    name: str, architecture: str, config: dict[str, Any], batch_size: int, length: int, **more: Any
) -> Job:
    return Job(name, "text_classification", "encoder", architecture, config, batch_size, length, **more)


BERT = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}
MODERN_BERT = {
    "hidden_size": 768,
    "num_hidden_layers": 22,
    "num_attention_heads": 12,
    "intermediate_size": 1152,
}
GPT2 = {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}
T5 = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}

JOBS = (  # in the order of their worth
    _encoder("BERT-base, 128", "bert", BERT, 64, 128, peak_share=0.4),
    _encoder("BERT-base, 384", "bert", BERT, 32, 384, peak_share=0.4),
    Job(
        "GPT-2, 1,024",
        "language_modelling",
        "decoder",
        "gpt2",
        GPT2,
        batch_size=8,
        length=1024,
        lengths_differ=False,
        rows=256,
        peak_share=0.4,
    ),
    Job(
        "T5-base, 512/128",
        "summarization",
        "encoder_decoder",
        "t5",
        T5,
        batch_size=16,
        length=512,
        target_len=128,
        rows=256,
        peak_share=0.3,
    ),
    _encoder("ModernBERT-base, 384", "modernbert", MODERN_BERT, 32, 384),
)

TINY_SIZES: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    "modernbert": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    },
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
}


def job(name: str, scale: Scale) -> Job:
    """Return a job by its name, at the sizes of `scale`."""
    [found] = [job for job in JOBS if job.name == name]
    if not scale.is_tiny:
        return found
    return replace(
        found,
        config=TINY_SIZES[found.architecture],
        batch_size=2,
        length=24,
        target_len=None if found.target_len is None else 12,
        rows=12,
        vocabulary=300,
    )
