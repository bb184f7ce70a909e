"""The section `data` of a run: where its examples come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from pipelines.config.section import Count, Fraction, Name, Section

MOST_GENERATED = 10_000_000  # examples: they are held in memory
# A file, or a file for each column whose lines belong together.
Files = Annotated[
    Annotated[Name, Tag("(file)")] | Annotated[dict[str, Name], Field(min_length=1), Tag("(files)")],
    Discriminator(lambda value: "(files)" if isinstance(value, dict) else "(file)"),
]


class GeneratedSpec(Section):
    """A corpus that a generator in `pipelines/corpora/` makes: no file, no download."""

    name: Name = Field(description="the generator")
    seed: int = Field(0, ge=0, description="seed of the corpus, independent of the seed of the run")
    train: Count = Field(le=MOST_GENERATED, description="training examples")
    validation: Count = Field(
        le=MOST_GENERATED, description="validation examples, which choose the checkpoint"
    )
    test: int = Field(
        0, ge=0, le=MOST_GENERATED, description="test examples, scored once at the end; 0: no test split"
    )
    options: dict[str, Any] = Field({}, description="options of the generator")


class SplitSpec(Section):
    """Random parts of the train file (or split of the Hub) that become validation and test."""

    validation: Fraction = Field(0.1, description="share of the rows that chooses the checkpoint; 0: none")
    test: Fraction = Field(0, description="share of the rows that is scored once at the end; 0: none")
    seed: int = Field(1, ge=0, description="seed of the split, independent of the seed of the run")

    @model_validator(mode="after")
    def _leaves_rows(self) -> SplitSpec:
        if not 0 < self.validation + self.test < 1:
            raise ValueError("validation and test together must be above 0 and below 1")
        return self


class DataConfig(Section):
    """Where the examples come from: a Hub dataset (`name`), files (`train`) or a generator (`generated`)."""

    name: Name | None = Field(None, description="dataset id on the Hub, such as leondz/wnut_17")
    config: Name | None = Field(None, description="configuration of the Hub dataset")
    revision: Name | None = Field(None, description="branch, tag or commit of the Hub dataset")
    folder: Name | None = Field(
        None,
        description="part of the Hub dataset: a folder of it, where its card lists no configurations",
    )
    train: Files | None = Field(
        None,
        description="file of training examples, or rows of it: a.csv[:80%]; {source: a.en, target: a.de}: "
        "parallel text; with `name` a split: train[:10%]",
    )
    validation: Files | None = Field(
        None, description="file or split of validation examples, which choose the checkpoint"
    )
    test: Files | None = Field(None, description="file or split of test examples, scored once at the end")
    split: SplitSpec | None = Field(
        None,
        description="random, stratified parts of train as validation and test: {validation: 0.1, test: 0.1}",
    )
    generated: GeneratedSpec | None = Field(None, description="a corpus made by a generator")
    format: Literal["parquet", "json", "jsonl", "csv", "tsv", "conll", "lines", "paragraphs"] | None = Field(
        None, description="format of the files; null: by file name"
    )
    encoding: Name | None = Field(None, description="encoding of text files; null: utf-8")
    columns: dict[str, Name] = Field(
        {},
        description="the task's column -> the data's column, where they differ; a.b: field b of column a",
    )
    streaming: bool = Field(
        False,
        description="true: rows stay on disk (in TMPDIR), for jsonl and parquet files larger than memory",
    )
    on_bad_row: Literal["stop", "skip"] = Field(
        "stop", description="what to do with an unreadable row; skip: leave it out and report how many"
    )
    publish_text: bool = Field(
        False,
        description="true: reports show texts of the data; only where its licence allows publishing them",
    )
    max_train_examples: Count | None = Field(None, description="use only the first this many; null: all")
    max_validation_examples: Count | None = Field(None, description="use only the first this many; null: all")
    max_test_examples: Count | None = Field(None, description="use only the first this many; null: all")
