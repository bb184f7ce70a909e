"""Collect the manifest of a run that has ended from its parts."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import torch

import custom_attention
from pipelines.data.features import Prepared
from pipelines.metrics.base import Metric
from pipelines.runs import identity
from pipelines.runs.baselines import baseline_record
from pipelines.runs.environment import environment
from pipelines.runs.manifest import DataRecord, Manifest, MetricRecord, ProofRecord
from pipelines.runs.prepare import PreparedRun
from pipelines.runs.sources import sources_of
from pipelines.tasks.shared.baselines import MOST_NOTED
from pipelines.train.evaluate import Evaluation


def collect_manifest(
    run: PreparedRun,
    described: Mapping[str, Any],
    evaluations: Mapping[str, Evaluation],
    startup_cpu_seconds: float,
) -> Manifest:
    """Return the manifest of a run whose training has ended.

    Args:
        described: the run's identity, from `identity.describe`.
        evaluations: by split, made with the weights of the best step.
        startup_cpu_seconds: CPU time of this process before training.
    """
    training = run.training
    config, state, model = training.config, training.state, training.model
    sources = sources_of(config)
    validation = {"validation": state.best_scores} if state.best_step is not None else {}
    manifest: Manifest = {
        "status": "finished" if state.diverged_at is None else "diverged",
        "run_hash": identity.run_hash(described),
        "config": config.to_dict(),
        "task": config.task.name,
        "task_state": run.task.state(),
        "model_name": config.model.name or f"{config.model.architecture} from scratch",
        "model_commit": (sources["model.name"]["commit"] if "model.name" in sources else None)
        or getattr(model.config, "_commit_hash", None),
        "sources": sources,
        "scores": validation | {split: _reported(found) for split, found in evaluations.items()},
        "per_type": {split: _per_type(found) for split, found in evaluations.items()},
        "metrics": {name: _describe(metric, evaluations) for name, metric in run.task.metrics.items()},
        "primary": training.selecting_metric,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "num_trained_parameters": sum(parameter.numel() for parameter in training.engine.parameters),
        "num_variant_parameters": sum(
            parameter.numel() for parameter in custom_attention.variant_parameters(model).values()
        ),
        "forward_flops": run.forward_flops,
        "num_steps": state.step,
        "best_step": state.best_step,
        "diverged_at": state.diverged_at,
        "train_seconds": state.train_seconds,
        "train_cpu_seconds": state.train_cpu_seconds,
        "peak_memory_bytes": _peak_memory(training.accelerator.device),
        "proof": cast(ProofRecord, asdict(run.proof)),
        "data": _data(run),
        "generation_set_aside": run.generation_set_aside,
        "dropout_paired": _dropout_paired(model, training.accelerator.device),
        "batches_hash": training.plan.digest(training.num_steps),
        "environment": environment(config.to_dict(), str(training.accelerator.device)),
        "startup_cpu_seconds": startup_cpu_seconds,
    }
    record = baseline_record(run.task, _splits(run)) if training.accelerator.is_main_process else None
    if record is not None:
        manifest["baselines"] = record
    return manifest


def _reported(evaluation: Evaluation) -> dict[str, float]:
    """Return the score of each metric by its own library, checked against the stored statistics."""
    from pipelines.metrics.adapter import reported_score  # imports evaluate, which no step needs

    return {
        name: reported_score(
            metric, evaluation.predictions, evaluation.references, evaluation.statistics[name]
        )
        for name, metric in evaluation.metrics.items()
    }


def _per_type(evaluation: Evaluation) -> dict[str, Any]:
    """Return the scores of each type of answer, from the metrics that have types."""
    return {
        name: metric.per_type(evaluation.predictions, evaluation.references)
        for name, metric in evaluation.metrics.items()
        if hasattr(metric, "per_type")
    }


def _describe(metric: Metric, evaluations: Mapping[str, Evaluation]) -> MetricRecord:
    record: MetricRecord = {
        "module": metric.module,
        "options": metric.options,
        "columns": list(metric.columns),
        "signature": metric.signature,
        "higher_is_better": metric.higher_is_better,
    }
    for found in evaluations.values():
        if note := metric.note(found.references[:MOST_NOTED]):
            record["note"] = note
    return record


def _splits(run: PreparedRun) -> dict[str, Prepared]:
    prepared = {"train": run.training.train, "validation": run.training.validation, "test": run.test}
    return {name: split for name, split in prepared.items() if split is not None}


def _data(run: PreparedRun) -> DataRecord:
    splits = _splits(run)
    return {
        "hashes": run.splits.hashes,
        "rows": run.splits.rows,
        "num_examples": {name: len(split.examples) for name, split in splits.items()},
        "num_features": {name: len(split.features) for name, split in splits.items()},
        "counts": {name: split.features.counts for name, split in splits.items()},
        "skipped": {name: len(rows) for name, rows in run.splits.skipped.items()},
        "notes": run.splits.notes,
    }


def _dropout_paired(model: torch.nn.Module, device: torch.device) -> bool:
    """Return whether attention drops the weights that stock attention would drop at the same seed.

    On a CPU every path draws them alike (tested); on other devices fused kernels draw in their own way.
    Outside attention the draws are the same in any case.
    """
    return device.type == "cpu" or not any(stack.explicit for _, stack in custom_attention.attached(model))


def _peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process in bytes: of its GPU, or resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts it in KiB
