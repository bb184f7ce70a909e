"""Valid configurations as short texts for `attnlab validate`: what would run, and what limits its results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.config.ablation import SearchConfig
from pipelines.config.load import AblationConfig, RunConfig
from pipelines.storage.paths import files_of

NOT_READ = (
    "not read here: the rows and columns of the data, the tokenizer and the weights, and whether lengths and "
    "sizes fit them (attnlab inspect reads them)"
)
# Settings of the training that are told where they are not the default.
TRAINING = (
    "optimizer",
    "momentum",
    "freeze",
    "warmup_ratio",
    "warmup_steps",
    "dropout",
    "label_smoothing",
    "class_weights",
)


def describe_run(run: RunConfig) -> Iterator[str]:
    """Yield a few lines on one run."""
    yield from _cell(run)
    yield f"attention: {attention(run.to_dict()['attention'])}"
    yield f"seed {run.seed}, learning rate {run.learning_rate:g}, {run.precision}"
    changed = {name: value for name in TRAINING if (value := getattr(run, name)) != _default(name)}
    if changed:
        yield ", ".join(f"{name} {_words(value)}" for name, value in changed.items())
    if run.lora is not None:
        layers = ", ".join(run.lora.targets or ("every linear layer",))
        yield f"LoRA of rank {run.lora.rank} and alpha {run.lora.alpha:g} on {layers}, merged at the end"
    data = run.data
    if not (data.generated or data.name or data.test or (data.split and data.split.test)):
        yield "note: no test split; the validation score is optimistic, because it chose the checkpoint"
    yield NOT_READ


def _default(name: str) -> object:
    return RunConfig.model_fields[name].default


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def describe_ablation(ablation: AblationConfig) -> Iterator[str]:
    """Yield the grid of an ablation, its primary metrics and margins, and what limits its verdict."""
    counts = len(ablation.cells), len(ablation.arms), len(ablation.seeds)
    words = [f"{count} {word}{'s' * (count != 1)}" for count, word in zip(counts, ("cell", "arm", "seed"))]
    yield f"{' x '.join(words)} = {counts[0] * counts[1] * counts[2]} runs"
    for name, run in ablation.cells.items():
        yield f"cell {name}: " + "; ".join(_cell(run))
    arms = ablation.to_dict()["arms"]
    for name, arm in arms.items():
        changes = [f"{key}={value}" for key, value in arm["set"].items()]
        where = [
            f"{key} {value}" for key, value in (arm["where"] or {}).items() if value not in (None, "all")
        ]
        is_baseline = " (baseline)" if name == ablation.baseline else ""
        yield f"arm {name}{is_baseline}: " + ", ".join([attention(arm["attention"]), *where, *changes])
    primary = [f"{task} {metric}" for task, metric in ablation.primary.items()]
    margin = [f"{metric} {points:g} (points)" for metric, points in ablation.margin.items()]
    yield f"primary: {', '.join(primary) or 'by task'}; margin: {', '.join(margin) or 'none'}"
    if ablation.search:
        yield f"search: {_searched(ablation.search)}, on seeds {list(ablation.search_seeds)}"
    if ablation.stopping:
        yield f"stopping: a look after each seed, at most {ablation.stopping.most_seeds} seeds"
    if ablation.assay:
        yield f"assay: {ablation.assay} is planted harm, which equivalence needs to find"
    yield from (f"note: {note}" for note in notes(ablation))
    yield NOT_READ


def _searched(search: SearchConfig) -> str:
    """Return what a search tries, as a text."""
    texts = [
        f"{name} {', '.join(f'{rate:g}' for rate in rates)}"
        for name, rates in (
            ("learning rates", search.learning_rate),
            ("learning rates of the variant", search.variant_learning_rate),
        )
        if rates
    ]
    texts += [f"{name} {', '.join(map(str, values))}" for name, values in search.options.items()]
    others = (
        "; an arm that lacks one tries more learning rates" if texts[1:] or not search.learning_rate else ""
    )
    return f"{' x '.join(texts)} for every arm{others}"


def notes(ablation: AblationConfig) -> Iterator[str]:
    """Yield what is allowed but limits the conclusions of the ablation."""
    if len(ablation.seeds) < 3 and ablation.stopping is None:
        yield "fewer than 3 seeds: only checkpoints are compared, there is no verdict"
    if not ablation.margin:
        yield "no margin: no arm can be found equivalent or non-inferior"
    if len(ablation.arms) == 1:
        yield "only one arm: there is nothing to compare it with"
    arms = list(ablation.arms.items())
    for index, (name, arm) in enumerate(arms):
        twins = [other for other, before in arms[:index] if before == arm]
        if twins:
            yield f"arms {twins[0]} and {name} are the same run: attnlab ablate needs --fresh to run both"


def attention(spec: Sequence[Any]) -> str:
    """Return a list of variants as a short text; an empty list is "stock"."""
    words = []
    for variant in spec:
        [(name, options)] = variant.items() if isinstance(variant, dict) else [(variant, {})]
        chosen = ", ".join(f"{key} {value}" for key, value in options.items())
        words.append(f"{name} ({chosen})" if chosen else name)
    return " + ".join(words) or "stock"


def _cell(run: RunConfig) -> list[str]:
    options = ", ".join(f"{key} {value}" for key, value in run.task.options.items())
    model = run.model.name or f"{run.model.architecture} from scratch"
    length = f"{run.max_steps} steps" if run.max_steps else f"{run.num_epochs} epochs"
    return [
        f"task {run.task.name}" + (f" ({options})" if options else ""),
        f"model {_short_path(model)} ({run.model.family})",
        f"data {_data(run)}",
        f"{length} of batch {run.batch_size}",
    ]


def _data(run: RunConfig) -> str:
    data = run.data
    if data.generated:
        return f"generated {data.generated.name} ({data.generated.train} training examples)"
    return data.name or " + ".join(_short_path(file) for file in files_of(data.train))


def _short_path(path: str) -> str:
    """A path relative to the working folder, where it is below that."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
