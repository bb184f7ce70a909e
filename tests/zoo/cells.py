"""Hold attnlab against transformers on one checkpoint: equal, refused in one sentence, or wrong."""

from __future__ import annotations

import contextlib
import io
import json
import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.cli.main import main
from pipelines.config.load import load_run
from pipelines.runs.prepare import load_data
from tests.zoo import scores
from tests.zoo.families import FAMILIES, WRITING, Family, save
from tests.zoo.oracle import IGNORED, MAX_NEW_TOKENS, Oracle, Reading
from tests.zoo.texts import ROWS

TOLERANCE = 2e-5  # of a loss: float32, summed in another order
NO_STEP = 1e-12  # a learning rate that moves no weight, so that the scores are those of the checkpoint
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "ner": {"max_len": 100, "overlap": 8},
    "question_answering": {"max_len": 126, "overlap": 8},
    "text_classification": {"max_len": 126},
    "language_modelling": {"max_len": 100, "overlap": 8},
    **{
        task: {"max_source_len": 90, "max_target_len": 38, "max_new_tokens": MAX_NEW_TOKENS}
        for task in WRITING
    },
}
LONG = {
    "max_source_len": 126,
    "max_target_len": 100,
    "max_new_tokens": MAX_NEW_TOKENS,
}  # source and target apart


@dataclass(frozen=True)
class Outcome:
    """What came of a cell: "equal", "refused" (with attnlab's sentence) or "WRONG" (with what differs)."""

    word: str
    why: str = ""


def measure(name: str, task: str, folder: Path) -> Outcome:
    """Build a checkpoint of a family, start a run from it, and compare it with the oracle."""
    family = FAMILIES[name]
    return compare(family, task, save(family, task, folder / "checkpoint"), folder)


def compare(
    family: Family, task: str, checkpoint: Path, folder: Path, changed: Mapping[str, Any] | None = None
) -> Outcome:
    """Start a run from a checkpoint and compare all that it reads, learns, writes and scores.

    Args:
        changed: options of the task.
    """
    settings = write_settings(family, task, checkpoint, folder, changed or {})
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(["train", str(settings), "--out", str(folder / "run")])
        except Exception:
            return Outcome("WRONG", "traceback: " + traceback.format_exc().strip().splitlines()[-1])
    if status != 0:
        sentence = said.getvalue().strip().splitlines()[-1]
        has_begun = (folder / "run" / "metrics.jsonl").exists()
        return Outcome("WRONG" if has_begun else "refused", sentence)
    oracle = Oracle(family, task, checkpoint)
    differences = list(
        _differences(oracle, [oracle.read(row) for row in ROWS[task]], settings, folder / "run")
    )
    return Outcome("WRONG", "; ".join(differences)) if differences else Outcome("equal")


def write_settings(
    family: Family, task: str, checkpoint: Path, folder: Path, changed: Mapping[str, Any]
) -> Path:
    """Write the data and the settings of a run that takes one step without moving."""
    rows = folder / "rows.jsonl"
    rows.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS[task]), encoding="utf-8")
    options: dict[str, Any] = dict(OPTIONS[task])
    if task in WRITING and family.reads != "decoder":
        options = dict(LONG)
    if task in ("summarization", "translation"):
        options["prefix"] = ""
    if task == "translation":
        options["target_language"] = "de"
        if family.languages:
            options |= dict(zip(("source_language", "target_language"), family.languages))
    settings = {
        "task": {"name": task, **options, **changed},
        "data": {"train": str(rows), "validation": str(rows)},
        "model": {"name": str(checkpoint), "family": family.reads},
        "attention": ["gate"],
        "max_steps": 1,
        "batch_size": len(ROWS[task]),
        "learning_rate": NO_STEP,
        "variant_learning_rate": NO_STEP,
        "weight_decay": 0.0,
        "log_every_steps": 1,
        "diagnostics_every_steps": None,
        "device": "cpu",
    }
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


def _differences(oracle: Oracle, right: Sequence[Reading], settings: Path, run: Path) -> Iterator[str]:
    task, splits = load_data(load_run([str(settings)]))
    assert splits.train is not None
    batches = [task.collate([feature]) for feature in task.prepare(splits.train)]
    if len(batches) != len(right):
        yield f"{len(batches)} features for {len(right)} examples"
        return
    num_targets, loss = sum(reading.num_targets for reading in right), sum(reading.loss for reading in right)
    if oracle.task == "language_modelling" and oracle.family.reads != "decoder":
        yield from _hidden(oracle, right, batches)
        read = [(batch["input_ids"][0].tolist(), batch["labels"][0].tolist()) for batch in batches]
        loss = sum(oracle.hidden_loss(*pair) for pair in read)
        num_targets = sum(label != IGNORED for _, labels in read for label in labels)
        is_drawn = True
    else:
        yield from _seen(oracle, right, batches)
        is_drawn = False
    yield from _other_numbers(oracle, right, run, loss / num_targets, is_drawn)


def _seen(oracle: Oracle, right: Sequence[Reading], batches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the first row whose ids, token types or labels are others."""
    for reading, batch in zip(right, batches):
        ids = batch["input_ids"][0].tolist()
        types = batch["token_type_ids"][0].tolist() if "token_type_ids" in batch else [0] * len(ids)
        if "first" in batch:
            labels = [int(batch["first"][0]), int(batch["last"][0])]
        else:
            labels = batch["labels"].flatten().tolist()
        name = oracle.tokenizer.convert_ids_to_tokens
        if ids != reading.ids:
            yield f"reads {' '.join(name(ids))}, right: {' '.join(name(reading.ids))}"
        if len(ids) == len(reading.ids) and types != reading.types:
            yield f"token types {types}, right: {reading.types}"
        if ids == reading.ids and labels != reading.labels:
            yield f"labels {labels}, right: {reading.labels}"
        if ids != reading.ids or labels != reading.labels:
            return


def _hidden(oracle: Oracle, right: Sequence[Reading], batches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the first text that is another one after what is hidden has been put back."""
    for reading, batch in zip(right, batches):
        ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
        whole = _refilled(ids, labels) if oracle.family.reads == "encoder" else _joined(oracle, ids, labels)
        if whole != reading.ids:
            name = oracle.tokenizer.convert_ids_to_tokens
            yield f"reads {' '.join(name(whole))}, right: {' '.join(name(reading.ids))}"
            return


def _refilled(ids: Sequence[int], labels: Sequence[int]) -> list[int]:
    return [token if label == IGNORED else label for token, label in zip(ids, labels)]


def _joined(oracle: Oracle, ids: Sequence[int], labels: Sequence[int]) -> list[int]:
    """Put the spans of the target where their sentinels are in the source."""
    marks = _marks(oracle.tokenizer)
    spans: list[list[int]] = []
    for label in labels[:-1]:  # the end token
        if label in marks:
            spans.append([])
        else:
            spans[-1].append(label)
    whole: list[int] = []
    for token in ids:
        whole += spans.pop(0) if token in marks and spans else [token]
    return whole


def _marks(tokenizer: Any) -> set[int]:
    found = {number for name, number in tokenizer.get_vocab().items() if name.startswith("<extra_id_")}
    return found or {tokenizer.mask_token_id}


def _other_numbers(
    oracle: Oracle, right: Sequence[Reading], run: Path, loss: float, is_drawn: bool
) -> Iterator[str]:
    """Yield the losses, predictions and score of the run that are others."""
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for event in events:
        is_step = event["event"] == "step"
        if event["event"] not in ("step", "evaluation") or (is_step and is_drawn):
            continue
        if not math.isclose(event["loss"], loss, rel_tol=TOLERANCE):
            yield f"{'training' if is_step else 'validation'} loss {event['loss']:.6f}, right: {loss:.6f}"
    manifest = json.loads((run / "manifest.json").read_text())
    predicted = _predictions(run)
    wanted = [reading.prediction for reading in right]
    if oracle.task != "language_modelling" and predicted != wanted:
        one, other = next((one, other) for one, other in zip(predicted, wanted) if one != other)
        yield f"predicts {one!r}, right: {other!r}"
    score = manifest["scores"]["validation"][manifest["primary"]]
    other_score = scores.score(oracle.task, wanted, loss)
    if not math.isclose(score, other_score, rel_tol=1e-3, abs_tol=1e-9):
        yield f"{manifest['primary']} {score:.4f}, right: {other_score:.4f}"


def _predictions(run: Path) -> list[Any]:
    [file] = run.glob("predictions*validation*")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    found = [row["prediction"] for row in rows]
    return [one["text"] if isinstance(one, dict) and "text" in one else one for one in found]
