"""Results and run folders made up for the tests of reports: any number of cells, arms and seeds."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

BASELINE = "stock"
WORDS = ("Jordan", "went", "to", "see", "Florence", "in", "Sydney", "with", "a", "<b>friend</b>")


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
    comparisons, about = [], {}
    everyone = [BASELINE, *arms]
    for number, cell in enumerate(cells):
        stock = {seed: 57 + draw.gauss(0, 0.5) for seed in seeds}
        paths = {
            (arm, seed): f"../cells/{number:02d}-{place:02d}-{seed}"
            for place, arm in enumerate(everyone)
            for seed in seeds
        }
        effects = {arm: draw.gauss(0, 0.7) for arm in arms}
        scores = {
            (arm, seed): stock[seed] + effects[arm] + draw.gauss(0, 0.2) for arm in arms for seed in seeds
        }
        scores |= {(BASELINE, seed): value for seed, value in stock.items()}
        for place, metric in enumerate(metrics):
            comparisons += [
                _comparison(cell, arm, metric, place == 0, list(seeds), scores, paths, draw) for arm in arms
            ]
        about[cell] = {arm: _about(arm, len(seeds), steps, draw) for arm in everyone}
        for arm, seed in paths if with_runs else ():
            run = (folder / paths[arm, seed]).resolve()
            write_run(run, arm, seed, scores[arm, seed], metrics, steps, draw)
    return {
        "schema_version": 1,
        "hash": "5f3c" * 16,
        "registration": {"hash": "9ab1" * 16, "time": "2026-11-22T08:00:00+00:00", "changed_afterwards": []},
        "environment": {
            "python": "3.11.7",
            "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
            "threads": 1,
        },
        "comparisons": comparisons,
        "arms": about,
        "failures": [],
    }


def _about(arm: str, num_runs: int, steps: int, draw: random.Random) -> dict:
    slower = 1.0 if arm == BASELINE else 1.02 + 0.06 * draw.random()
    return {
        "num_runs": num_runs,
        "num_parameters": 22_565_376 + 48 * (arm != BASELINE),
        "num_variant_parameters": 48 * (arm != BASELINE),
        "forward_flops": 2_000_000_000 + 5_000_000 * (arm == "gate"),
        "train_seconds": 0.31 * steps * slower,
        "peak_memory_bytes": int(8.1e8 * slower),
        "num_steps": [steps] * num_runs,
        "best_step": [steps] * num_runs,
        "proof": {"max_difference": 0.0, "starts_as_stock": True, "sites": 6, "sentence": "equal to stock"},
    }


def _comparison(cell, arm, metric, primary, seeds, scores, paths, draw) -> dict:
    differences = [scores[arm, seed] - scores[BASELINE, seed] for seed in seeds]
    difference = fmean(differences)
    spread = stdev(differences) / math.sqrt(len(seeds)) if len(seeds) > 1 else 0.0
    se = math.hypot(spread, 0.18)
    low, high = difference - 2.4 * se, difference + 2.4 * se
    verdict = "better" if low > 0 else "worse" if high < 0 else "inconclusive"
    edges = [difference + 0.18 * (k - 10) / 3 for k in range(21)]
    return {
        "cell": cell,
        "task": cell.split("-")[0],
        "model": cell.split("-")[-1],
        "split": "test",
        "metric": metric,
        "signature": f"{metric}|seqeval:1.2.2|mode:default",
        "higher_is_better": True,
        "scale": "linear",
        "primary": primary,
        "baseline": BASELINE,
        "arm": arm,
        "n_examples": 1287,
        "n_clusters": 1287,
        "n_differing": 214,
        "identical_predictions": 0.834,
        "seeds": seeds,
        "baseline_scores": [scores[BASELINE, seed] for seed in seeds],
        "arm_scores": [scores[arm, seed] for seed in seeds],
        "seed_differences": differences,
        "difference": difference,
        "se": se,
        "df": 4.3,
        "ci95": [low, high],
        "ci90": [difference - 1.9 * se, difference + 1.9 * se],
        "p": 0.2 * draw.random(),
        "p_holm": 0.3 * draw.random() if primary else None,
        "mde80": 3.6 * se,
        "margin": 0.5 if primary else None,
        "variance": {
            "seeds": spread**2,
            "examples": 0.18**2,
            "interaction": 0.1 * spread**2,
            "total": se**2,
        },
        "bootstrap": {
            "se": 0.18,
            "interval95": [difference - 0.36, difference + 0.36],
            "counts": [round(1000 * math.exp(-(((k - 9.5) / 3) ** 2) / 2)) for k in range(20)],
            "edges": edges,
            "num_resamples": 10_000,
        },
        "verdict": verdict,
        "within_margin": False,
        "reason": "made up",
        "flags": [],
        "runs": {
            "baseline": [paths[BASELINE, seed] for seed in seeds],
            "arm": [paths[arm, seed] for seed in seeds],
        },
    }


def write_run(folder: Path, arm, seed, score, metrics, steps, draw, diverge_at: int | None = None) -> None:
    """A run folder with a manifest and a log of `steps` steps; from `diverge_at` on the loss is lost."""
    folder.mkdir(parents=True, exist_ok=True)
    slower = 1.0 + 0.05 * (arm != BASELINE) + draw.gauss(0, 0.01)
    manifest = {
        "status": "finished" if diverge_at is None else "diverged",
        "best_step": steps,
        "num_steps": steps,
        "train_seconds": steps * 0.31 * slower,
        "train_cpu_seconds": steps * 0.3 * slower,
        "total_seconds": steps * 0.35 * slower,
        "proof": {"max_difference": 0.0, "bound": 0.0, "starts_as_stock": True, "reached": 6, "expected": 6},
        "batches_hash": f"batches-of-seed-{seed}",
        "dropout_paired": True,
        "num_parameters": 22_565_376 + 48 * (arm != BASELINE),
        "num_variant_parameters": 48 * (arm != BASELINE),
        "peak_memory_bytes": 810_000_000,
        "config": {"seed": seed, "attention": arm},
        "primary": metrics[0],
        "environment": {"threads": 1, "processes": 1, "max_tokens": 4096, "device": "cpu", "versions": {}},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with (folder / "metrics.jsonl").open("w") as log:
        for step in range(1, steps + 1):
            loss = 2.2 * math.exp(-3 * step / steps) + 0.12 + abs(draw.gauss(0, 0.06))
            shown = "nan" if diverge_at is not None and step >= diverge_at else loss
            log.write(json.dumps({"event": "step", "step": step, "epoch": 0, "loss": shown}) + "\n")
            if step % max(1, steps // 10) == 0:
                reached = score * (1 - 0.6 * math.exp(-4 * step / steps)) + draw.gauss(0, 0.3)
                event = {"event": "evaluation", "step": step, "split": "validation", "loss": loss}
                log.write(json.dumps(event | dict.fromkeys(metrics, reached)) + "\n")
    write_diagnostics(folder, arm, steps, draw)


def write_diagnostics(folder: Path, arm: str, steps: int, draw: random.Random) -> None:
    """What attention did in a T5 of one layer and three heads; a gate has a mean, a temperature a number."""
    sites = []
    for stack, kind in (("encoder", "self"), ("decoder", "self"), ("decoder", "cross")):
        entropy = [0.2 + 0.1 * head + 0.2 * draw.random() for head in range(3)]
        gate = {"mean": [1 + draw.gauss(0, 0.2) for _ in entropy]} if "gate" in arm else None
        learned = {"temperature.log_temperature": [draw.gauss(0, 0.1)]} if "temperature" in arm else {}
        where = {"name": "a", "stack": stack, "layer": 0, "kind": kind}
        sites.append(where | {"entropy": entropy, "sink_mass": entropy, "gate": gate, "learned": learned})
    line = {"step": steps, "final": True, "sites": sites}
    (folder / "diagnostics.jsonl").write_text(json.dumps(line) + "\n")


def write_predictions(folder: Path, seed: int, quality: float, num_examples: int = 60) -> None:
    """Tagged sentences of 3 to 22 words with their entity statistics, as a run leaves them."""
    import pyarrow
    import pyarrow.parquet

    from pipelines.metrics.load import load

    metric = load("entity_f1", {})
    sentences, draw = random.Random(11), random.Random(seed * 1000 + int(100 * quality))
    lines, rows = [], []
    for number in range(num_examples):
        length = sentences.randint(3, 22)
        reference = [sentences.choice(("O", "O", "O", "B-PER", "B-LOC")) for _ in range(length)]
        prediction = [label if draw.random() < quality else "O" for label in reference]
        words = [sentences.choice(WORDS) for _ in reference]
        lines.append({"id": f"s{number}", "input": words, "prediction": prediction, "reference": reference})
        rows.append(metric.statistics(prediction, reference))
    (folder / "predictions.test.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    columns = {"id": [line["id"] for line in lines], "cluster": [line["id"] for line in lines]}
    columns |= {f"f1.{name}": [float(row[k]) for row in rows] for k, name in enumerate(metric.columns)}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "statistics.test.parquet")
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    entry = {
        "module": "entity_f1",
        "options": {},
        "columns": list(metric.columns),
        "signature": metric.signature,
    }
    manifest["metrics"] = {"f1": entry}
    path.write_text(json.dumps(manifest))
