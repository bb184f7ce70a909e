"""The jobs that are measured: a model, its data, and the defaults of the official example scripts.

The defaults are those documented for run_qa, run_ner, run_summarization, run_translation and run_clm of
transformers' examples: how inputs are padded, and how many examples a batch has in training and evaluation.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.mirror import SHARED
from tests.mirror import mirror as build_mirror

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "configs"
chosen = ""  # only cases whose name contains this
turns: int | None = None  # of each case; None: those of the benchmark


@dataclass(frozen=True)
class Case:
    """One job: YAML files and overrides for attnlab, settings for the reference."""

    name: str
    files: tuple[str, ...]
    overrides: tuple[str, ...]
    pad_to: int | None = None  # inputs of the reference; None: the longest of its batch
    eval_batch_size: int = 8
    num_steps: int = 4  # measured at a time
    num_updates: int = 100  # after which the loss is compared
    updates_of: int | None = None  # examples of such an update; None: the batch size
    # targets: attnlab over the reference
    training_target: float | None = None
    evaluation_target: float | None = None  # of those that write texts
    memory_target: float | None = None

    def settings(self) -> tuple[list[str], list[str]]:
        return [str(CONFIGS / file) for file in self.files], list(self.overrides)


def mirror() -> Path:
    """Return the mirror that ATTNLAB_MIRROR names, else the one of the tests."""
    if "ATTNLAB_MIRROR" not in os.environ:
        if not SHARED.is_dir():
            raise SystemExit("name a mirror of the Hub by ATTNLAB_MIRROR (attnlab fetch fills one)")
        os.environ["ATTNLAB_MIRROR"] = str(build_mirror())  # of child processes too
    return Path(os.environ["ATTNLAB_MIRROR"])


def source(name: str) -> str:
    """Return the folder of "datasets/ORG/NAME" or "models/ORG/NAME" in the mirror."""
    folder = mirror() / name
    if not folder.is_dir():
        raise SystemExit(f"{name} is not in the mirror {mirror()}: attnlab fetch CONFIG adds it")
    return str(folder)


T5_MINI = "model/t5-medium-scratch.yaml"


def cases() -> list[Case]:
    """Return the chosen cases, on the data of the mirror."""
    return [case for case in _cases() if chosen in case.name]


def _cases() -> list[Case]:
    mirror()
    blocks = _long_texts(Path(tempfile.gettempdir()) / "attnlab-bench-shakespeare.jsonl")
    return [
        Case(
            "QA, MiniLM, batch 12",
            ("task/qa-squad.yaml", "model/minilm.yaml"),
            ("data.max_train_examples=600", "data.max_validation_examples=120"),
            pad_to=384,
            num_steps=3,
            num_updates=24,
            updates_of=4,
            training_target=3.0,
            memory_target=0.4,
        ),
        Case(
            "NER, MiniLM, batch 8",
            ("task/ner-btc.yaml", "model/minilm.yaml"),
            ("data.max_train_examples=1500", "data.max_validation_examples=300", "data.max_test_examples=1"),
            num_steps=12,
            training_target=2.0,
        ),
        Case(
            "NER, ModernBERT of 11 M, batch 8",
            ("task/ner-btc.yaml", "model/modernbert-small-scratch.yaml"),
            (
                "data.max_train_examples=1500",
                "data.max_validation_examples=300",
                "data.max_test_examples=1",
                "model.vocab_size=8000",
                "model.config={hidden_size: 384, num_hidden_layers: 6, num_attention_heads: 12,"
                " intermediate_size: 768}",
            ),
            num_steps=12,
            training_target=1.5,
        ),
        Case(
            "summarization, T5 of 9 M, batch 4",
            ("task/summarization-dialogsum.yaml", T5_MINI),
            (
                "task.max_source_len=512",
                "task.max_target_len=96",
                "batch_size=4",
                "data.max_train_examples=1200",
                "data.max_validation_examples=32",
                "data.max_test_examples=1",
            ),
            eval_batch_size=4,
            evaluation_target=3.0,
            num_steps=24,  # dialogues differ much in length
            training_target=2.0,
        ),
        Case(
            "translation, T5 of 9 M, batch 4",
            ("task/translation-tatoeba.yaml", T5_MINI),
            (
                "batch_size=4",
                "data.max_train_examples=8000",
                "data.max_validation_examples=64",
                "data.max_test_examples=1",
            ),
            eval_batch_size=4,
            evaluation_target=5.0,
            num_steps=40,
            training_target=1.6,
        ),
        Case(
            "translation, T5 of 9 M, batch 64",
            ("task/translation-tatoeba.yaml", T5_MINI),
            ("data.max_train_examples=8000", "data.max_validation_examples=128", "data.max_test_examples=1"),
            eval_batch_size=64,
            num_steps=6,
            training_target=1.4,
        ),
        Case(
            "causal LM, GPT-2 of 5 M, batch 8 x 1,024",
            *_language_model(blocks, max_len=1024, batch_size=8),
            pad_to=1024,
            num_steps=1,
            num_updates=10,
            updates_of=2,
            training_target=1.1,
            memory_target=0.4,
        ),
    ]


def long_input() -> Case:
    """Return a job whose inputs have 10,000 tokens."""
    texts = _long_texts(Path(tempfile.gettempdir()) / "attnlab-bench-shakespeare-long.jsonl", 60_000)
    name = "causal LM, GPT-2 of 5 M, inputs of 10,000 tokens"
    return Case(name, *_language_model(texts, max_len=10_000, batch_size=1), num_steps=1)


def _language_model(texts: Path, *, max_len: int, batch_size: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return files and overrides of a causal language model on texts of its own."""
    return ("task/lm-shakespeare.yaml", "model/gpt2-small-scratch.yaml"), (
        "data.name=null",
        "data.revision=null",
        f"data.train={texts}",
        f"data.validation={texts}",
        "data.test=null",
        "data.max_validation_examples=16",
        f"task.max_len={max_len}",
        "task.overlap=1",
        f"batch_size={batch_size}",
        "model.vocab_size=8000",
        f"model.config={{n_embd: 256, n_layer: 4, n_head: 8, n_positions: {max_len}}}",
    )


def _long_texts(path: Path, length: int = 6000) -> Path:
    """Write Shakespeare in rows that fill a block of 1,024 tokens, as run_clm concatenates its texts."""
    from datasets import load_dataset

    text = "\n\n".join(load_dataset(source("datasets/Trelis/tiny-shakespeare"), split="train")["Text"])
    rows = [text[start : start + length] for start in range(0, len(text) - length, length)]
    path.write_text("".join(json.dumps({"Text": row}) + "\n" for row in rows), encoding="utf-8")
    return path


def watched(cases: Iterable[Case]) -> Iterator[Case]:
    """Yield the cases and print each name when its turn comes: a benchmark takes minutes."""
    for case in cases:
        print(f"{case.name} ...", file=sys.stderr, flush=True)
        yield case
