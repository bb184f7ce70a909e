"""Results and run folders made up for the tests of reports: any number of cells, arms and seeds."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

VERDICTS = ("better", "inconclusive", "worse", "equivalent", "non-inferior", "better, within the margin")


def build(
    root: Path,
    cells: Sequence[str] = ("ner-minilm",),
    arms: Sequence[str] = ("unscaled", "gate"),
    seeds: Sequence[int] = (1, 2, 3),
    metrics: Sequence[str] = ("f1", "strict_f1"),
    steps: int = 60,
    with_runs: bool = True,
    chance: int = 0,
) -> dict:
    """Results of an ablation at `root`/report whose runs are written under `root`/cells."""
    draw = random.Random(chance)
    folder = root / "report"
    folder.mkdir(parents=True, exist_ok=True)
    comparisons = []
    for cell in cells:
        stock = {seed: 57 + draw.gauss(0, 0.5) for seed in seeds}
        paths = {
            (arm, seed): f"../cells/{cell}-{place:02d}-{seed}"
            for place, arm in enumerate(["stock", *arms])
            for seed in seeds
        }
        effects = {arm: draw.gauss(0, 0.7) for arm in arms}
        scores = {(arm, s): stock[s] + effects[arm] + draw.gauss(0, 0.2) for arm in arms for s in seeds}
        scores |= {("stock", seed): value for seed, value in stock.items()}
        for place, metric in enumerate(metrics):
            comparisons += [
                _comparison(cell, arm, metric, place == 0, list(seeds), scores, paths, draw) for arm in arms
            ]
        for arm, seed in paths if with_runs else ():
            write_run(
                (folder / paths[arm, seed]).resolve(), arm, seed, scores[arm, seed], metrics, steps, draw
            )
    return {
        "schema_version": 1,
        "hash": "5f3c" * 8,
        "registration": {"hash": "9ab1" * 16, "changed": []},
        "environment": {
            "python": "3.11.7",
            "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
            "threads": 1,
        },
        "comparisons": comparisons,
        "failures": [],
    }


def _comparison(cell, arm, metric, primary, seeds, scores, paths, draw) -> dict:
    differences = [scores[arm, seed] - scores["stock", seed] for seed in seeds]
    difference = fmean(differences)
    se = math.hypot(stdev(differences) / math.sqrt(len(seeds)), 0.15) if len(seeds) > 1 else 0.2
    low, high = difference - 2.4 * se, difference + 2.4 * se
    verdict = "better" if low > 0 else "worse" if high < 0 else "inconclusive"
    return {
        "cell": cell,
        "task": cell.split("-")[0],
        "model": cell.split("-")[-1],
        "metric": metric,
        "signature": f"{metric}|seqeval:1.2.2|mode:default",
        "higher_is_better": True,
        "primary": primary,
        "baseline": "stock",
        "arm": arm,
        "n_examples": 1287,
        "n_clusters": 1287,
        "seeds": seeds,
        "baseline_scores": [scores["stock", seed] for seed in seeds],
        "arm_scores": [scores[arm, seed] for seed in seeds],
        "difference": difference,
        "se": se,
        "df": 4.3,
        "ci95": [low, high],
        "p": min(1.0, draw.random() * 0.2),
        "p_holm": min(1.0, draw.random() * 0.3) if primary else None,
        "mde80": 3.6 * se,
        "margin": 0.5 if primary else None,
        "verdict": verdict,
        "within_margin": False,
        "flags": [],
        "variance": {
            "seeds": 0.4 * se**2,
            "examples": 0.7 * se**2,
            "interaction": 0.1 * se**2,
            "total": se**2,
        },
        "runs": {
            "baseline": [paths["stock", seed] for seed in seeds],
            "arm": [paths[arm, seed] for seed in seeds],
        },
    }


def write_run(folder: Path, arm, seed, score, metrics, steps, draw, diverge_at: int | None = None) -> None:
    """A run folder with a manifest and a log of `steps` steps; from `diverge_at` on the loss is lost."""
    folder.mkdir(parents=True, exist_ok=True)
    extra = 0 if arm == "stock" else 48
    manifest = {
        "status": "finished" if diverge_at is None else "diverged",
        "num_parameters": 22_565_376 + extra,
        "num_variant_parameters": extra,
        "best_step": steps,
        "num_steps": steps,
        "train_seconds": steps * 0.31 * (1.0 + 0.05 * (arm != "stock") + draw.gauss(0, 0.01)),
        "total_seconds": steps * 0.35,
        "peak_memory_bytes": 812_000_000,
        "proof": {
            "max_difference": 0.0,
            "bound": 0.0,
            "exact": True,
            "starts_as_stock": True,
            "reached": 6,
            "expected": 6,
            "passed": True,
            "sentence": "equal to stock, exactly",
        },
        "batches_hash": f"batches-of-seed-{seed}",
        "dropout_paired": True,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with (folder / "metrics.jsonl").open("w") as log:
        for step in range(1, steps + 1):
            loss = 2.2 * math.exp(-3 * step / steps) + 0.12 + abs(draw.gauss(0, 0.06))
            loss = float("nan") if diverge_at is not None and step >= diverge_at else loss
            log.write(json.dumps({"event": "step", "step": step, "epoch": 0, "loss": loss}) + "\n")
            if step % max(1, steps // 10) == 0:
                reached = score * (1 - 0.6 * math.exp(-4 * step / steps)) + draw.gauss(0, 0.3)
                event = {"event": "evaluation", "step": step, "split": "validation", "loss": loss}
                log.write(json.dumps(event | dict.fromkeys(metrics, reached)) + "\n")
