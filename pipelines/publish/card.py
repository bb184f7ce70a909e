"""README.md of a pushed run: what its attention is, how to load it, how good it is, and where it ends."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import yaml
from huggingface_hub import ModelCard

from pipelines.config import describe
from pipelines.errors import UserError
from pipelines.hub.address import Address
from pipelines.publish.loading_code import Way
from pipelines.registry import catalog
from pipelines.report.format import number
from pipelines.report.templating import escape_markdown as escape

# What the Hub calls the job of a model, by the head of its task and the family of the model.
PIPELINE_TAGS = {
    "token_classification": "token-classification",
    "question_answering": "question-answering",
    "sequence_classification": "text-classification",
    "image_classification": "image-classification",
    "audio_classification": "audio-classification",
    "forecasting": "time-series-forecasting",
    "language_modelling": {"encoder": "fill-mask", "decoder": "text-generation"},
    "text_to_text": {},  # the task's own name: summarization, translation
}


@dataclass(frozen=True)
class Score:
    """One reported number: points, with the 95 % interval over examples where there is one."""

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
    base_revision: str | None = None  # the commit of it that the run began with
    base_license: str | None = None
    kind: str = "stock"
    note: str = ""  # on folding
    ways: Sequence[Way] = ()
    proof: Mapping[str, float] = field(default_factory=dict)  # way -> largest difference
    scores: Sequence[Score] = ()
    comparisons: Sequence[str] = ()  # with stock under the same budget, one sentence each
    manifest: Mapping[str, Any] = field(default_factory=dict)
    figures: Sequence[tuple[str, str]] = ()  # (file, what it shows)
    license: str | None = None
    data_license: str | None = None

    @property
    def address(self) -> str:
        """What our commands call it."""
        return str(Address(self.repo, None if self.branch == "main" else self.branch))

    @property
    def began_with(self) -> str:
        """The model before training, in words."""
        return (
            self.base_model
            or self.config["model"]["name"]
            or f"{self.config['model']['architecture']} from scratch"
        )

    @property
    def stated_license(self) -> str | None:
        """The licence of what is pushed: as the user says, else that of the model which it began with."""
        return self.license or self.base_license


def render(facts: CardData) -> str:
    """The whole card, valid by the client's own reading of it.

    Raises:
        UserError: the metadata is not what the Hub takes.
    """
    parts = [f"# {facts.repo.split('/')[1]}", _lead(facts), *_attention(facts), *_loading(facts)]
    parts += [*_results(facts), *_origin(facts), *_limits(facts), *_record(facts)]
    head = yaml.safe_dump(metadata(facts), sort_keys=False, allow_unicode=True)
    return checked(f"---\n{head}---\n\n" + "\n\n".join(parts) + "\n", facts.repo)


def checked(text: str, repo: str) -> str:
    """The text of a card, if the Hub's client can read its metadata.

    Raises:
        UserError: it cannot.
    """
    try:
        ModelCard(text, ignore_metadata_errors=False)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{repo}, README.md", f"has metadata that is not valid: {error}") from error
    return text


def metadata(facts: CardData) -> dict[str, Any]:
    """The head of the card, by the names of the Hub."""
    config, variants = facts.config, [next(iter(_pair(spec))) for spec in facts.config["attention"]]
    data = config["data"]
    known = {
        "library_name": "transformers",
        "license": facts.stated_license,
        "pipeline_tag": pipeline_tag(facts.head, config),
        "base_model": facts.base_model,
        "datasets": [data["name"]] if data["name"] else None,
        "tags": ["attnlab", "attention", *variants, *(["custom_code"] if facts.kind == "custom" else [])],
    }
    if facts.scores:
        known["model-index"] = [{"name": facts.repo.split("/")[1], "results": [_result(facts)]}]
    return {name: value for name, value in known.items() if value is not None}


def pipeline_tag(head: str, config: Mapping[str, Any]) -> str | None:
    """The Hub's word for what the model does."""
    tag = PIPELINE_TAGS.get(head)
    return tag.get(config["model"]["family"], _task_tag(config)) if isinstance(tag, dict) else tag


def _task_tag(config: Mapping[str, Any]) -> str | None:
    name = config["task"]["name"]
    return name if name in ("summarization", "translation") else None


def _result(facts: CardData) -> dict[str, Any]:
    data, split = facts.config["data"], facts.scores[0].split
    dataset = {"type": data["name"] or "local", "name": data_name(facts.config), "split": split}
    dataset |= {key: data[key] for key in ("config", "revision") if data[key]}
    metrics = [
        {"type": score.metric, "value": round(score.value, 4), "name": f"{split} {score.metric}"}
        for score in facts.scores
    ]
    task = {"type": pipeline_tag(facts.head, facts.config) or facts.config["task"]["name"]}
    return {"task": task, "dataset": dataset, "metrics": metrics}


def data_name(config: Mapping[str, Any]) -> str:
    """What a reader calls the data."""
    data = config["data"]
    if data["generated"]:
        return f"the generated corpus {data['generated']['name']}"
    return data["name"] or data["train"]


# ---- the text
def _lead(facts: CardData) -> str:
    config = facts.config
    data, task = escape(data_name(config)), config["task"]["name"]
    words = escape(describe.attention(config["attention"]))
    return (
        f"{escape(facts.began_with)}, trained on {data} ({task}) with attention: **{words}**. "
        f"Made with attnlab {version('attnlab')}."
    )


def _pair(spec: Any) -> dict[str, Any]:
    return spec if isinstance(spec, dict) else {spec: {}}


def _attention(facts: CardData) -> Iterator[str]:
    yield "## The attention"
    if not facts.config["attention"]:
        yield "Stock attention, softmax(q kᵀ · scale) v: the model as transformers has it."
        return
    for spec in facts.config["attention"]:
        [(name, options)] = _pair(spec).items()
        chosen = ", ".join(f"{key}: {value}" for key, value in (options or {}).items())
        equation, *rest = explained(name)
        yield f"**{escape(name)}**{f' ({escape(chosen)})' if chosen else ''}"
        yield f"```text\n{equation}\n```"
        yield from (escape(paragraph) for paragraph in rest)
    where = {k: v for k, v in facts.config["where"].items() if v not in (None, "all")}
    sites = ", ".join(f"{key} {value}" for key, value in where.items())
    count = (facts.manifest or {}).get("num_variant_parameters")
    added = f" In training it had {count:,} parameters of its own." if count else ""
    yield f"At {'every attention site' if not sites else escape(sites)}.{added}"
    if facts.note:
        yield escape(facts.note[0].upper() + facts.note[1:])


def explained(variant: str) -> list[str]:
    """The paragraphs of a variant's docstring, the first of them its equation."""
    entry, named = catalog.find(catalog.VARIANT, variant), variant.partition(":")[2]
    if entry is None:
        return [variant]
    for node in entry.module.tree.body:
        is_variant = isinstance(node, ast.ClassDef) and node.bases and named in ("", node.name)
        text = ast.get_docstring(node) if is_variant else None
        if text:
            return [part.strip() for part in text.partition("Options:")[0].split("\n\n") if part.strip()]
    return [entry.meaning]


def _loading(facts: CardData) -> Iterator[str]:
    if not facts.ways:
        return
    yield "## How to load it"
    if facts.kind == "folded":
        yield "The attention is folded into the weights: a plain checkpoint that needs no custom code."
    if facts.kind == "custom":
        yield "The weights need their attention: without it, transformers refuses to load them."
    for way in facts.ways:
        yield way.needs
        yield f"```python\n{way.code}```"
        if way.name in facts.proof:
            yield (
                f"Run before the upload in a fresh process: the largest difference to the trained model, on "
                f"the batch in `probe.safetensors`, was {facts.proof[way.name]:.2g}."
            )
    yield (
        f"For the task as it was trained (thresholds, decoding, scoring): "
        f"`attnlab predict {facts.address} --input FILE`."
    )


def _results(facts: CardData) -> Iterator[str]:
    if not facts.scores:
        return
    first = facts.scores[0]
    yield "## Results"
    yield "| metric | score | 95 % interval over examples | examples | how it is counted |\n" + "\n".join(
        ["|:--|--:|:--|--:|:--|", *(_score(score) for score in facts.scores)]
    )
    count = "one run" if not facts.comparisons else "this run"
    seed = f"{count}, seed {facts.config['seed']}"
    yield f"On the {first.split} split, {seed}: the interval knows nothing of other seeds."
    if facts.comparisons:
        yield "Against the baseline under the same budget (paired seeds, two-way t over seeds and examples):"
        yield "\n".join(f"- {escape(sentence)}" for sentence in facts.comparisons)
    yield from (f"![{escape(what)}]({file})" for file, what in facts.figures)


def _score(score: Score) -> str:
    bounds = " to ".join(number(bound) for bound in score.interval) if score.interval else ""
    cells = (
        score.metric,
        number(score.value),
        bounds,
        f"{score.num_examples or ''}",
        escape(score.signature),
    )
    return f"| {' | '.join(cells)} |"


def _origin(facts: CardData) -> Iterator[str]:
    config, data = facts.config, facts.config["data"]
    yield "## Where it comes from"
    lines = [f"Licence of this model: {facts.stated_license or 'not stated'}."]
    if config["model"]["name"]:
        revision = f", revision {facts.base_revision}" if facts.base_revision else ""
        known = facts.base_license or "not known here, see its page"
        lines.append(f"Base model: {escape(facts.began_with)}{revision}. Its licence: {known}.")
    splits = ", ".join(f"{split}: {data[split]}" for split in ("train", "validation", "test") if data[split])
    at = f", revision {data['revision']}" if data["revision"] else ""
    own = "made by attnlab, free to use" if data["generated"] else "not stated"
    lines.append(
        f"Data: {escape(data_name(config))}{at}{f' ({escape(splits)})' if splits else ''}. "
        f"Its licence: {escape(facts.data_license or own)}."
    )
    yield "\n".join(f"- {line}" for line in lines)


def _limits(facts: CardData) -> Iterator[str]:
    config = facts.config
    yield "## Limits"
    lines = [f"Seen: {data_name(config)} and nothing else. What it says of other text has not been measured."]
    if config["data"]["generated"]:
        lines.append("The corpus is made up by a program: the scores say nothing about natural language.")
    if not facts.comparisons:
        lines.append("One seed without a baseline: no claim about the attention follows from it.")
    if not facts.stated_license:
        lines.append("No licence is stated: ask its owner before you use it.")
    lines.append("It has not been examined for bias or misuse.")
    yield "\n".join(f"- {escape(line)}" for line in lines)


def _record(facts: CardData) -> Iterator[str]:
    manifest = facts.manifest
    if manifest:
        made = manifest["environment"]
        versions = ", ".join(f"{name} {value}" for name, value in made["versions"].items())
        seconds, steps = manifest["train_seconds"], manifest["num_steps"]
        yield "## How it was made"
        yield (
            f"{steps:,} steps in {seconds:,.0f} s on {escape(made['device'])}, "
            f"{manifest['num_parameters']:,} parameters. {escape(versions)}. "
            f"`attnlab verify {facts.address}` checks every number, "
            f"`attnlab reproduce {facts.address}` trains it again."
        )
    text = yaml.safe_dump(dict(facts.config), sort_keys=False, allow_unicode=True)
    yield f"<details><summary>Configuration of the run</summary>\n\n```yaml\n{text}```\n\n</details>"
