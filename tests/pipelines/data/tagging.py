"""A task without a model, for tests that read and check rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pipelines.config.data import DataConfig
from pipelines.tasks.base import Column, Task


class Tagging(Task):
    """Words and tags; `fit` remembers the tags of train, and `check` then refuses others."""

    head, primary, metric_names = "none", "none", ()
    columns: ClassVar = {
        "tokens": Column("tokens", "the words"),
        "tags": Column("ner_tags", "one tag per word"),
        "topic": Column("topic", "what it is about", required=False),
    }
    known: frozenset[str] = frozenset()

    def fit(self, splits: Any) -> None:
        self.known = frozenset(tag for example in splits["train"] for tag in example["tags"])

    def check(self, example: Any) -> str | None:
        if len(example["tokens"]) != len(example["tags"]):
            return f"has {len(example['tokens'])} tokens and {len(example['tags'])} tags"
        new = [tag for tag in example["tags"] if self.known and tag not in self.known]
        return f"has the tag {new[0]!r}, which no row of train has" if new else None

    prepare = collate = loss = predict = assemble = metric = reference = lambda self, *args: None


def config(**entries: Any) -> DataConfig:
    """A data section; paths may be `Path`s."""
    return DataConfig(**{name: str(v) if isinstance(v, Path) else v for name, v in entries.items()})
