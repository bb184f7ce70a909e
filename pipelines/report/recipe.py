"""The recipe in words: what each arm changes, how a cell was trained, and the command that repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.comparison.recipe import ArmRecipe, CellRecipe, Change
from pipelines.config import describe
from pipelines.report import format as fmt
from pipelines.report.data import ReportData

SPLITS = ("train", "validation", "test")
Kind = Literal["attention ablation", "model comparison", "ablation", "comparison after the fact"]
# The settings that make another model of it: other weights or another architecture.
MODELS = ("model.name", "model.architecture", "model.revision", "model.family")
Terms = list[tuple[str, str]]


@dataclass(frozen=True)
class ArmDefinition:
    """What an arm is, in the cells where it is that."""

    arm: str
    cells: tuple[str, ...]  # empty: in all of them
    words: str


def arms(facts: ReportData) -> list[ArmDefinition]:
    """Return what every arm is; several entries where it differs by cell. Older results do not say."""
    found = []
    for arm in facts.arms:
        words: dict[str, list[str]] = {}
        for cell, recipe in sorted(facts.recipes.items()):
            if arm in recipe.arms:
                words.setdefault(_words(recipe, arm, facts.baseline), []).append(cell)
        found += [
            ArmDefinition(arm, tuple(cells) if len(words) > 1 else (), text) for text, cells in words.items()
        ]
    return found


def arms_yaml(facts: ReportData) -> str:
    """Return the arms as an ablation file states them; empty where the results do not say."""
    entries = {
        recipe.arms[arm].yaml: None
        for arm in facts.arms
        for _, recipe in sorted(facts.recipes.items())
        if arm in recipe.arms
    }
    lines = [f"  {line}\n" for entry in entries for line in entry.splitlines()]
    return "arms:\n" + "".join(lines) if lines else ""


def baseline(facts: ReportData) -> str:
    """Return the baseline for "compared with ...": attention is named where every arm differs in it."""
    changes = [
        {change.setting for change in about.changes}
        for recipe in facts.recipes.values()
        for arm, about in recipe.arms.items()
        if arm != facts.baseline
    ]
    all_differ = bool(changes) and all("attention" in settings for settings in changes)
    return f"{facts.baseline} attention" if all_differ and facts.baseline == "stock" else facts.baseline


def changes_attention(facts: ReportData) -> bool:
    """Return whether an arm differs in its attention; so does that of results that do not say."""
    said = [about for recipe in facts.recipes.values() for about in recipe.arms.values()]
    return not said or any(map(_changes_attention, said))


def kind(facts: ReportData) -> Kind:
    """Return what the arms differ in: attention, the model, or something else."""
    if facts.is_after_the_fact:
        return "comparison after the fact"
    changed = [
        about
        for recipe in facts.recipes.values()
        for arm, about in recipe.arms.items()
        if arm != facts.baseline
    ]
    if changed and all(map(_changes_model, changed)):
        return "model comparison"
    return "attention ablation" if changes_attention(facts) else "ablation"


def _changes_model(arm: ArmRecipe) -> bool:
    return any(change.setting in MODELS for change in arm.changes)


def _changes_attention(arm: ArmRecipe) -> bool:
    return any(change.setting.startswith(("attention", "where.")) for change in arm.changes)


def terms(facts: ReportData, cell: str) -> Terms:
    """Return how the baseline of a cell was trained, as terms with their values."""
    recipe = facts.recipes.get(cell)
    if recipe is None:
        return []
    about = facts.summary(cell, facts.baseline)
    size = [f"{about.num_parameters:,} parameters"] if about.num_parameters else []
    at = f" at {recipe.model_revision}" if recipe.model_revision else ""
    row = next((row for row in (*facts.primary, *facts.rows) if row.cell == cell), None)
    found = [
        ("model", ", ".join([f"{recipe.model}{at}", recipe.family, *size, *_options(recipe.model_config)])),
        ("task", ", ".join([recipe.task, *_options(recipe.task_options)])),
        ("data", _data(recipe)),
        ("metric", f"{row.metric}{f' [{row.signature}]' if row.signature else ''}" if row else ""),
        ("length", _length(recipe, about.num_steps)),
        ("batch size", f"{recipe.batch_size}"),
        ("learning rate", _rate(recipe)),
        ("optimizer", _optimizer(recipe)),
        ("frozen", ", ".join(recipe.freeze)),
        ("dropout", "" if recipe.dropout is None else f"{recipe.dropout:g} everywhere"),
        ("loss", _loss(recipe)),
        ("precision", recipe.precision),
        ("LoRA", f"rank {recipe.lora_rank}" if recipe.lora_rank else ""),
        ("seeds", fmt.listing([str(seed) for seed in recipe.seeds])),
        ("device", str(facts.results.environment.get("device") or "")),
    ]
    return [(term, value) for term, value in found if value]


def paragraph(facts: ReportData) -> str:
    """Return the arms and the training of every cell as sentences; empty where the results do not say."""
    told = [
        f"{one.arm}{f' on {fmt.listing(one.cells)}' if one.cells else ''}: {one.words}"
        for one in arms(facts)
        if one.arm != facts.baseline
    ]
    by_cell = {cell: found for cell in facts.cells if (found := terms(facts, cell))}
    if not by_cell:
        return ""
    shared = [
        term for term in next(iter(by_cell.values())) if all(term in found for found in by_cell.values())
    ]
    several = len(by_cell) > 1
    own = {
        cell: [term for term in found if not (several and term in shared)] for cell, found in by_cell.items()
    }
    text = f"Arms: {'; '.join(told)}. " if told else ""
    text += " ".join(f"{cell}: {_joined(found)}." for cell, found in own.items() if found)
    return text + (f" In every cell: {_joined(shared)}. " if several and shared else " ")


def commands(facts: ReportData) -> list[str]:
    """Return the commands that make every run again, for the folder above the ablation's."""
    known = facts.results.registration
    folders = sorted((known.ablations if known else None) or (facts.folder.resolve().name,))
    return [f"attnlab reproduce {shlex.quote(folder)}" for folder in folders]


def _words(recipe: CellRecipe, arm: str, baseline: str) -> str:
    changes = recipe.arms[arm].changes
    if arm == baseline:
        others = [about for name, about in recipe.arms.items() if name != baseline]
        models = bool(others) and all(map(_changes_model, others))
        return f"the baseline: {recipe.model if models else f'{recipe.attention} attention'}"
    if not changes:
        return "the same settings as the baseline"
    about = recipe.arms[arm]
    aside = "" if _changes_attention(about) else " (no change of attention)"
    aside = " (another model)" if _changes_model(about) else aside
    return "; ".join(map(_change, changes)) + aside


def _change(change: Change) -> str:
    setting, values = change.setting, (change.arm, change.baseline)
    if setting == "attention":
        mine, theirs = (describe.attention(value) for value in values if isinstance(value, list))
        return f"{mine} instead of {theirs} attention"
    if setting == "seed_offset":
        return f"seeds raised by {change.arm} instead of {change.baseline}"
    mine, theirs = ("all" if setting.startswith("where.") and one is None else _value(one) for one in values)
    name = setting.removeprefix("where.").replace("_", " ").replace(".", " ")
    return f"{name} {mine} instead of {theirs}"


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(_value, value)) if isinstance(value, list | tuple) else str(value)


def _options(options: Mapping[str, object]) -> Iterator[str]:
    yield from (f"{name} {_value(options[name])}" for name in sorted(options))


def _data(recipe: CellRecipe) -> str:
    at = f" at {recipe.data_revision}" if recipe.data_revision else ""
    counts = [f"{recipe.num_examples[split]:,} {split}" for split in SPLITS if split in recipe.num_examples]
    return f"{recipe.data}{at}" + (f" ({', '.join(counts)} examples)" if counts else "")


def _length(recipe: CellRecipe, num_steps: Sequence[int | None]) -> str:
    made = sorted({steps for steps in num_steps if steps is not None})
    steps = f"{made[0]:,}" if len(made) == 1 else f"{made[0]:,} to {made[-1]:,}" if made else ""
    if recipe.max_steps:
        return f"{steps or recipe.max_steps} steps"
    return f"{fmt.plural(recipe.num_epochs, 'epoch')}{f', {steps} steps' if steps else ''}"


def _rate(recipe: CellRecipe) -> str:
    warmup = (
        f"after a warm-up over {100 * recipe.warmup_ratio:g} % of the steps" if recipe.warmup_ratio else ""
    )
    if recipe.warmup_steps:
        warmup = f"after a warm-up over {fmt.plural(recipe.warmup_steps, 'step')}"
    shape = {"linear": "falling linearly", "cosine": "falling as a cosine"}.get(
        recipe.schedule, recipe.schedule
    )
    return f"{recipe.learning_rate:g} at its peak, {shape} {warmup or 'without warm-up'}"


def _optimizer(recipe: CellRecipe) -> str:
    clip = f"gradients clipped at norm {recipe.max_grad_norm:g}" if recipe.max_grad_norm else "no clipping"
    betas = f"betas {recipe.adam_beta1:g} and {recipe.adam_beta2:g}, epsilon {recipe.adam_epsilon:g}"
    momentum = "" if recipe.momentum is None else f" with momentum {recipe.momentum:g}"
    name = {
        "adamw": f"AdamW, {betas}",
        "adafactor": "Adafactor",
        "sgd": f"SGD{momentum}",
        "muon": f"Muon{momentum} for the matrices of the layers, AdamW for all else, {betas}",
    }[recipe.optimizer]
    return f"{name}, weight decay {recipe.weight_decay:g}, {clip}"


def _loss(recipe: CellRecipe) -> str:
    smoothing = f"label smoothing {recipe.label_smoothing:g}" if recipe.label_smoothing else ""
    weights = f"labels weighted {_value(recipe.class_weights)}" if recipe.class_weights else ""
    return ", ".join(part for part in (smoothing, weights) if part)


def _joined(found: Terms) -> str:
    return "; ".join(f"{term} {value}" for term, value in found)
