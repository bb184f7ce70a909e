"""README.md of a pushed run: its attention, how to load it, its scores, its origin and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import yaml

from pipelines.config import describe
from pipelines.hub.address import Address
from pipelines.publish import metadata, variant_text
from pipelines.publish.loading_code import ModelKind, Way
from pipelines.publish.variant_text import VariantText
from pipelines.report import templating
from pipelines.storage.paths import files_of

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Score:
    """One reported number in points, with its 95 % interval over examples if there is one."""

    metric: str
    value: float
    split: str
    num_examples: int | None = None
    interval: tuple[float, float] | None = None
    signature: str = ""


@dataclass(frozen=True)
class CardData:
    """What a card is written from. Before training there are no scores, ways or versions yet."""

    repo: str
    branch: str
    config: Mapping[str, Any]  # of the run, without paths of this machine
    head: str
    base_model: str | None = None  # an id on the Hub
    base_revision: str | None = None  # the commit of it that the run started from
    base_license: str | None = None
    kind: ModelKind = "stock"
    note: str = ""  # on folding
    ways: Sequence[Way] = ()
    differences: Mapping[str, float] = field(default_factory=dict)  # way -> largest one in the load check
    scores: Sequence[Score] = ()
    comparisons: Sequence[str] = ()  # with stock under the same budget, one sentence each
    manifest: Mapping[str, Any] = field(default_factory=dict)
    figures: Sequence[tuple[str, str]] = ()  # (file, caption)
    license: str | None = None
    data_license: str | None = None

    @property
    def name(self) -> str:
        """The name of the repository without its owner."""
        return self.repo.split("/")[1]

    @property
    def address(self) -> str:
        """The address of the model for attnlab's commands."""
        return str(Address(self.repo, None if self.branch == "main" else self.branch))

    @property
    def started_from(self) -> str:
        """The model before training, in words."""
        model = self.config["model"]
        return self.base_model or model["name"] or f"{model['architecture']} from scratch"

    @property
    def stated_license(self) -> str | None:
        """The licence of the model: the one that the user states, else that of the base model."""
        return self.license or self.base_license

    @property
    def data_name(self) -> str:
        """The name of the data for a reader."""
        data = self.config["data"]
        if data["generated"]:
            return f"the generated corpus {data['generated']['name']}"
        return data["name"] or " + ".join(files_of(data["train"]))

    @property
    def data_splits(self) -> str:
        """The splits or files of the data, as far as the configuration names them."""
        data = self.config["data"]
        return ", ".join(f"{split}: {' + '.join(files_of(data[split]))}" for split in SPLITS if data[split])

    @property
    def variants(self) -> list[VariantText]:
        return variant_text.describe_all(self.config["attention"])

    @property
    def sites(self) -> str:
        """The attention sites that the variants were attached to; empty for all of them."""
        where = self.config["where"].items()
        return ", ".join(f"{key} {value}" for key, value in where if value not in (None, "all"))

    @property
    def versions(self) -> str:
        """The versions of the libraries that the run used."""
        return ", ".join(
            f"{name} {value}" for name, value in self.manifest["environment"]["versions"].items()
        )


def render(card: CardData) -> str:
    """Return the whole card.

    Raises:
        UserError: the Hub does not take its metadata.
    """
    text = (
        templating.markdown()
        .get_template("model_card.md")
        .render(
            card=card,
            metadata=metadata.to_yaml(_metadata(card)),
            attention=describe.attention(card.config["attention"]),
            version=version("attnlab"),
            run_yaml=yaml.safe_dump(dict(card.config), sort_keys=False, allow_unicode=True),
        )
    )
    return metadata.require_valid(text, card.repo)


def _metadata(card: CardData) -> dict[str, object]:
    """Return the entries of the card's head, by the names of the Hub; None where one is not known."""
    data = card.config["data"]
    variants = [variant_text.name_and_options(spec)[0] for spec in card.config["attention"]]
    custom = ["custom_code"] if card.kind == "custom" else []
    return {
        "library_name": "transformers",
        "license": card.stated_license,
        "pipeline_tag": _pipeline_tag(card),
        "base_model": card.base_model,
        "datasets": [data["name"]] if data["name"] else None,
        "tags": ["attnlab", "attention", *variants, *custom],
        "model-index": [{"name": card.name, "results": [_result(card)]}] if card.scores else None,
    }


def _pipeline_tag(card: CardData) -> str | None:
    return metadata.pipeline_tag(card.head, card.config["model"]["family"], card.config["task"]["name"])


def _result(card: CardData) -> dict[str, object]:
    """Return the scores in the form of the Hub's model index."""
    data, split = card.config["data"], card.scores[0].split
    dataset = {"type": data["name"] or "local", "name": card.data_name, "split": split}
    dataset |= {key: data[key] for key in ("config", "revision") if data[key]}
    metrics = [
        {"type": score.metric, "value": round(score.value, 4), "name": f"{split} {score.metric}"}
        for score in card.scores
    ]
    task = {"type": _pipeline_tag(card) or card.config["task"]["name"]}
    return {"task": task, "dataset": dataset, "metrics": metrics}
