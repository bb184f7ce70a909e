"""Write ablation folders with made-up runs, in the form of `attnlab ablate`, to test what reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pipelines.ablation.preregistration import read_registration, register, seal
from pipelines.config.load import AblationConfig
from pipelines.metrics import load
from pipelines.metrics.base import total
from pipelines.runs import identity
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import sealed

RUN: dict[str, Any] = {
    "task": "ner",
    "data": {"generated": {"name": "ner", "train": 30, "validation": 20, "test": 60}},
    "model": {"architecture": "bert", "family": "encoder"},
    "max_steps": 40,
}
VERSIONS = {"torch": "2.13.0", "transformers": "5.23.0"}
F1 = load.load("entity_f1")


def config(
    arms: Sequence[str] | Mapping[str, Any] = ("stock", "gate"),
    seeds: Sequence[int] = (1, 2, 3),
    cells: Sequence[str] = ("toy",),
    run: Mapping[str, Any] = {},
    **changes,
) -> AblationConfig:
    """Return an ablation of `RUN`, changed by `run`; unless stated, each arm but stock is one variant."""
    attention = arms if isinstance(arms, Mapping) else {arm: [] if arm == "stock" else [arm] for arm in arms}
    values = {"cells": dict.fromkeys(cells, RUN | run), "arms": attention, "seeds": list(seeds)}
    return AblationConfig.model_validate(values | {"primary": {"ner": "f1"}, "margin": {"f1": 0.5}} | changes)


def write(root: Path, name: str = "toy", finished: Sequence[int] | None = None, **options) -> Path:
    """Write an ablation folder `root`/`name`; the runs of the seeds in `finished` (None: all) have ended."""
    stated = config(**options)
    folder = root / name
    register(stated, folder)
    names, registration = {}, seal(read_registration(folder))
    for cell in stated.cells:
        for arm in stated.arms:
            for seed in stated.seeds:
                run = stated.run_config(cell, arm, seed)
                described = identity.describe(run)
                digest = identity.run_hash(described)
                names[f"{cell}/{arm}/{seed}"] = digest[:16]
                is_there = (root / "cells" / digest[:16] / "manifest.json").exists()
                if not is_there and (finished is None or seed in finished):
                    finish(root / "cells" / digest[:16], run, described, registration=registration)
    (folder / "runs.json").write_text(json.dumps(names))
    return folder


def run_folder(ablation: Path, arm: str, seed: int, cell: str = "toy") -> Path:
    """Return the folder of one run of an ablation."""
    names = json.loads((ablation / "runs.json").read_text())
    return ablation.parent / "cells" / names[f"{cell}/{arm}/{seed}"]


def finish(
    path: Path,
    run,
    described: dict,
    *,
    skill: float | None = None,
    evaluation=None,
    registration: str | None = None,
) -> None:
    """Write a finished run, with 60 tagged sentences that follow from its arm and seed unless stated."""
    folder, registration = RunFolder(path), registration or _registration_beside(path)
    folder.write_identity(described, run.to_dict())
    evaluation = evaluation or tagged_sentences(run, skill)
    for split in ("validation", "test"):
        folder.write_evaluation(split, evaluation)
    for step in (10, 20, 30, 40):
        loss = 2.0 / step
        event = {"event": "step", "step": step, "epoch": step / 20, "loss": loss, "seconds": step / 5}
        folder.log(event)
    metrics = evaluation.metrics
    scores = {
        name: float(metric.score(total(evaluation.statistics[name]))) for name, metric in metrics.items()
    }
    folder.log({"event": "evaluation", "step": 40, "split": "validation", "loss": 0.05, **scores})
    folder.model.mkdir(exist_ok=True)
    (folder.model / "model.safetensors").write_bytes(b"weights")
    folder.finish(
        {
            "status": "finished",
            "run_hash": identity.run_hash(described),
            "config": run.to_dict(),
            "task": run.task.name,
            "task_state": {},
            "scores": {"validation": scores, "test": scores},
            "metrics": {name: _described(metric) for name, metric in metrics.items()},
            "primary": next(iter(metrics)),
            "num_steps": 40,
            "best_step": 40,
            "diverged_at": None,
            "num_parameters": 1000,
            "num_variant_parameters": 0,
            "train_seconds": 8.0,
            "train_cpu_seconds": 7.5,
            "total_seconds": 12.0,
            "peak_memory_bytes": 1000,
            "batches_hash": f"batches of seed {run.seed}",
            "data": {"hashes": {"test": "abc"}, "counts": {"validation": {}, "test": {}}},
            "proof": {"max_difference": 0.0, "starts_as_stock": True, "reached": 2, "sentence": "equal"},
            "environment": {"threads": 1, "processes": 1, "max_tokens": 4096, "device": "cpu"}
            | {"versions": VERSIONS},
            **({"registration": registration} if registration else {}),
        }
    )


def _registration_beside(run: Path) -> str | None:
    """Return the seal of the one registration beside the runs; None where there is none, or several."""
    there = list(run.parent.parent.glob("*/registration.json"))
    return seal(read_registration(there[0].parent)) if len(there) == 1 else None


def tagged_sentences(run, skill: float | None = None) -> SimpleNamespace:
    """Return the evaluation of 60 tagged sentences, whose counts follow from a run's attention and seed."""
    arm = "+".join(variant.name for variant in run.attention)
    chance = np.random.default_rng([run.seed, len(arm)])
    gold = np.random.default_rng(7).integers(0, 4, 60)
    right = chance.binomial(gold, skill or 0.6 + 0.02 * chance.normal())
    predicted = right + chance.poisson(0.4, 60)
    statistics = np.stack([right, predicted, gold], axis=1).astype(float)
    ids = [f"s{number}" for number in range(60)]
    return SimpleNamespace(
        ids=ids,
        clusters=ids,
        predictions=[_tags(hit, found) for hit, found in zip(right, predicted)],
        references=[_tags(total, total) for total in gold],
        metrics={"f1": F1},
        statistics={"f1": statistics},
    )


def _described(metric) -> dict[str, Any]:
    described = {"module": metric.module, "options": metric.options, "columns": list(metric.columns)}
    return described | {"signature": metric.signature, "higher_is_better": metric.higher_is_better}


def forge(record: Path, content: Mapping[str, Any]) -> None:
    """Write a record with another content, and with the hash that attnlab gives to it."""
    record.write_text(json.dumps(sealed(content)))


def list_again(run: Path) -> None:
    """Write the manifest of a run again, with the files that it has now."""
    RunFolder(run).finish(json.loads((run / "manifest.json").read_text()))


def _tags(right: int, found: int) -> list[str]:
    """Return tags with `right` entities that are right, and others up to `found`."""
    known = ["B-PER" if place < right else "O" for place in range(8)]
    wrong = ["B-LOC" if place < found - right else "O" for place in range(8)]
    return [tag for name in (*known, *wrong) for tag in (name, "O")]


def reported(root: Path, name: str = "toy", **options) -> Path:
    """An ablation folder with its results."""
    from pipelines.ablation import looks
    from pipelines.ablation.results import ended_ablation, results_of

    folder = write(root, name, **options)
    ended = [ended_ablation(folder)]
    results = results_of(ended, folder)
    looks.record(results, ended, print)
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results))
    return folder
