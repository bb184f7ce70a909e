"""From run folders to results.json: numbers, verdicts, flags and refusals."""

import json
import math
from importlib.resources import files

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from pipelines.comparison import compare
from pipelines.comparison.significance import holm, two_way
from pipelines.errors import UserError
from pipelines.metrics import load

VERSIONS = {"torch": "2.13.0", "transformers": "5.23.0"}


def ablation(arms=("stock", "gate"), seeds=(1, 2, 3), cells=("ner-bert",), primary=None, margin=None):
    config = {"task": {"name": "ner"}, "model": {"name": "/models/bert", "architecture": None}}
    return {
        "cells": dict.fromkeys(cells, config),
        "arms": {arm: {"attention": []} for arm in arms},
        "baseline": "stock",
        "seeds": list(seeds),
        "primary": {"ner": "f1"} if primary is None else primary,
        "margin": {"f1": 0.5} if margin is None else margin,
    }


def counts(seed, num_examples=60, skill=0.6, common=7):
    """Entity counts of a run; examples are equally hard for every run."""
    gold = np.random.default_rng(common).integers(0, 4, num_examples)
    rng = np.random.default_rng(seed)
    right = rng.binomial(gold, skill)
    return np.stack([right, right + rng.poisson(0.4, num_examples), gold], axis=1).astype(float)


class Folders:
    """Writes run folders the way `run_folder.py` does, with anything about them changed."""

    def __init__(self, root):
        self.root, self.runs = root, {}

    def add(self, arm, seed, stats=None, *, cell="ner-bert", split="test", metrics=None, **changes):
        stats = counts(hash_of(arm, seed)) if stats is None else stats
        metrics = metrics or {"f1": "entity_f1"}
        folder = self.root / "cells" / f"{cell}-{arm}-{seed}"
        folder.mkdir(parents=True)
        built = {name: load.load(module) for name, module in metrics.items()}
        ids = changes.pop("ids", [str(n) for n in range(len(stats))])
        columns = {"id": ids, "cluster": changes.pop("clusters", ids)}
        for name, one in built.items():
            columns |= {f"{name}.{column}": stats[:, n] for n, column in enumerate(one.columns)}
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"statistics.{split}.parquet")
        lines = changes.pop("predictions", [f"{arm} {seed} {i}" for i in ids])
        text = "".join(json.dumps({"id": i, "prediction": p}) + "\n" for i, p in zip(ids, lines))
        (folder / f"predictions.{split}.jsonl").write_text(text)
        manifest = {
            "status": "finished",
            "config": {"seed": seed, "batch_size": 16, "attention": arm},
            "scores": {
                split: {
                    name: float(one.score(stats[:, : len(one.columns)].sum(axis=0)))
                    for name, one in built.items()
                }
            },
            "metrics": {name: described(one) for name, one in built.items()},
            "primary": next(iter(metrics)),
            "num_parameters": 100 + len(arm),
            "num_variant_parameters": 0 if arm == "stock" else len(arm),
            "train_seconds": 10.0 * seed,
            "peak_memory_bytes": 1000 * seed,
            "num_steps": 40,
            "best_step": 30,
            "batches_hash": f"batches of seed {seed}",
            "proof": {"max_difference": 0.0, "starts_as_stock": True, "reached": 4, "sentence": "equal"},
            "environment": {"threads": 1, "processes": 1, "max_tokens": 4096, "device": "cpu"}
            | {"versions": VERSIONS},
        }
        for name, value in changes.items():
            manifest[name] = manifest.get(name, {}) | value if isinstance(value, dict) else value
        (folder / "manifest.json").write_text(json.dumps(manifest))
        self.runs[cell, arm, seed] = folder
        return folder

    def grid(self, arms=("stock", "gate"), seeds=(1, 2, 3), **options):
        for seed in seeds:
            for arm in arms:
                self.add(arm, seed, **options)
        return self.runs


def described(one):
    return {
        "module": one.module,
        "options": one.options,
        "columns": list(one.columns),
        "signature": one.signature,
        "higher_is_better": one.higher_is_better,
    }


def hash_of(arm, seed):
    return 1000 * seed + sum(map(ord, arm))


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


def only(results):
    [row] = results["comparisons"]
    return row


def test_a_row_holds_the_two_way_t_of_the_stored_statistics(folders):
    results = compare.build(ablation(), folders.grid(), folder=folders.root / "ablation")
    row = only(results)
    baseline, arm = (np.stack([counts(hash_of(a, s)) for s in (1, 2, 3)]) for a in ("stock", "gate"))
    score = load.load("entity_f1").score
    want = two_way(baseline, arm, score)
    for name in ("difference", "se", "df", "p", "mde80"):
        assert row[name] == getattr(want, name)
    assert row["ci95"] == list(want.ci95)
    assert row["baseline_scores"] == score(baseline.sum(axis=1)).tolist()
    assert row["arm_scores"] == score(arm.sum(axis=1)).tolist()
    assert row["seed_differences"] == [b - a for a, b in zip(row["baseline_scores"], row["arm_scores"])]
    assert row["runs"]["arm"] == [f"../cells/ner-bert-gate-{s}" for s in (1, 2, 3)]
    assert (row["n_examples"], row["n_clusters"], row["seeds"]) == (60, 60, [1, 2, 3])
    assert (row["task"], row["model"], row["split"]) == ("ner", "bert", "test")
    assert row["bootstrap"]["se"] == pytest.approx(math.sqrt(row["variance"]["examples"]), rel=0.1)
    assert results["schema_version"] == 1
    assert results["environment"]["versions"] == VERSIONS
    assert results == json.loads(json.dumps(results, allow_nan=False))


def test_rows_follow_the_published_schema(folders):
    results = compare.build(ablation(arms=("stock", "gate", "cap")), folders.grid(("stock", "gate")))
    schema = json.loads((files("pipelines") / "config/schema/results.schema.json").read_text())
    check(results, schema, schema)


def check(value, schema, root):
    """As much of JSON Schema as ours uses."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    if "enum" in schema:
        assert value in schema["enum"], value
    if "pattern" in schema:
        import re

        assert re.search(schema["pattern"], value), value
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    kinds |= {"integer": int, "number": (int, float)}
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    assert not types or any(isinstance(value, kinds[name]) for name in types), (value, types)
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value), set(schema["required"]) - set(value)
        known = schema.get("properties", {})
        if schema.get("additionalProperties") is False:
            assert set(value) <= set(known), set(value) - set(known)
        rest = schema.get("additionalProperties")
        for name, item in value.items():
            if name in known or isinstance(rest, dict):
                check(item, known.get(name, rest), root)
    if isinstance(value, list) and "items" in schema:
        for item in value:
            check(item, schema["items"], root)


def test_holm_is_over_all_primary_rows_of_the_ablation_and_no_others(folders):
    plan = ablation(arms=("stock", "gate", "cap"), cells=("ner-bert", "ner-gpt2"))
    metrics = {"f1": "entity_f1", "accuracy": "accuracy"}
    for cell in plan["cells"]:
        stats = {arm: counts(hash_of(arm, 5)) for arm in plan["arms"]}
        folders_for = [(arm, seed) for seed in (1, 2, 3) for arm in plan["arms"]]
        for arm, seed in folders_for:
            two = stats[arm] + np.random.default_rng(seed).integers(0, 2, stats[arm].shape)
            folders.add(arm, seed, two, cell=cell, metrics=metrics)
    rows = compare.build(plan, folders.runs)["comparisons"]
    primary = [row for row in rows if row["primary"]]
    assert [row["metric"] for row in rows] == ["f1", "f1", "accuracy", "accuracy"] * 2
    assert len(primary) == 4
    assert [row["p_holm"] for row in primary] == holm([row["p"] for row in primary])
    assert all(row["p_holm"] is None for row in rows if not row["primary"])


def test_a_row_that_may_claim_nothing_keeps_its_place_in_the_family(folders):
    plan = ablation(arms=("stock", "gate", "cap"))
    folders.grid(("stock", "gate"))
    folders.add("cap", 1)
    gate, cap = compare.build(plan, folders.runs)["comparisons"]
    assert gate["p_holm"] == min(1.0, 2 * gate["p"])
    assert (cap["p_holm"], cap["verdict"]) == (None, "no-verdict")
    assert cap["arm_scores"][1:] == [None, None]
    assert cap["runs"]["arm"][1:] == [None, None]
    assert "cap seed 2" in cap["reason"]


def test_a_diverged_run_is_a_finding_named_with_its_count(folders):
    runs = folders.grid(seeds=(1, 2, 3, 4))
    del runs["ner-bert", "gate", 3]
    failures = [{"cell": "ner-bert", "arm": "gate", "seed": 3, "run": "x", "status": "diverged", "step": 7}]
    results = compare.build(ablation(seeds=(1, 2, 3, 4)), runs, failures)
    row = only(results)
    assert row["verdict"] == "unstable"
    assert "1 of 4" in row["reason"]
    assert row["difference"] is not None
    assert row["seed_differences"][2] is None
    assert results["failures"] == [failures[0] | {"reason": None}]


def test_identical_runs_are_identical_and_two_seeds_never_earn_a_word(folders):
    same = {seed: counts(seed) for seed in (1, 2, 3)}
    for seed, stats in same.items():
        for arm in ("stock", "gate"):
            folders.add(arm, seed, stats, predictions=[f"{seed}"] * 60)
    row = only(compare.build(ablation(), folders.runs))
    assert (row["verdict"], row["difference"], row["p"], row["identical_predictions"]) == (
        "identical",
        0,
        1,
        1,
    )
    short = {key: path for key, path in folders.runs.items() if key[2] < 3}
    row = only(compare.build(ablation(seeds=(1, 2)), short))
    assert row["verdict"] == "no-verdict"
    assert "checkpoint comparison" in row["reason"]


def test_two_arms_that_score_zero_are_flagged(folders):
    nothing = counts(1) * [0, 0, 1]
    row = only(compare.build(ablation(), folders.grid(stats=nothing)))
    assert row["verdict"] == "identical"
    assert "every score is 0: neither arm has learned to predict" in row["flags"]


def test_a_clear_gain_is_better_and_a_clear_loss_worse(folders):
    for seed in (1, 2, 3):
        base = counts(seed, 200)
        up, down = base.copy(), base.copy()
        up[:, 0] = np.minimum(up[:, 2], up[:, 0] + (np.arange(200) % 2))
        down[:, 0] = np.maximum(0, down[:, 0] - (np.arange(200) % 3 > 0))
        folders.add("stock", seed, base)
        folders.add("up", seed, np.maximum(up, [0, 1, 0] * up[:, :1]))
        folders.add("down", seed, down)
    plan = ablation(arms=("stock", "up", "down")) | {"collapse": {"f1": 1.0}}
    rows = compare.build(plan, folders.runs)["comparisons"]
    assert [row["verdict"] for row in rows] == ["better", "worse"]
    assert rows[0]["difference"] > 0 > rows[1]["difference"]


def test_lower_is_better_metrics_are_turned_and_perplexity_is_compared_by_ratio(folders):
    rng = np.random.default_rng(1)
    tokens = rng.integers(20, 60, 50).astype(float)
    for seed in (1, 2, 3):
        nll = tokens * (2 + rng.normal(0, 0.1, 50))
        better = nll - tokens * math.log(1.05) * (1 + rng.normal(0, 0.01, 50))
        for arm, values in (("stock", nll), ("gate", better)):
            folders.add(arm, seed, np.stack([values, tokens], axis=1), metrics={"perplexity": "perplexity"})
    plan = ablation(primary={"ner": "perplexity"}, margin={"perplexity": 1.0})
    row = only(compare.build(plan | {"collapse": {"perplexity": 1.0}}, folders.runs))
    ratios = [arm / stock for arm, stock in zip(row["arm_scores"], row["baseline_scores"])]
    assert row["difference"] == pytest.approx(-100 * np.mean(np.log(ratios)))
    assert row["difference"] == pytest.approx(100 * math.log(1.05), rel=0.05)
    assert row["ratio"] == pytest.approx(math.exp(np.mean(np.log(ratios))))
    assert row["ratio_ci95"][0] < row["ratio"] < row["ratio_ci95"][1] < 1
    assert row["verdict"] == "better"
    assert (row["scale"], row["higher_is_better"]) == ("log", False)


def test_examples_of_one_cluster_are_left_out_together(folders):
    clusters = [f"document {n // 6}" for n in range(60)]
    row = only(compare.build(ablation(), folders.grid(clusters=clusters)))
    assert (row["n_examples"], row["n_clusters"]) == (60, 10)
    assert any("10 clusters" in flag for flag in row["flags"])


def test_examples_of_a_single_cluster_have_no_verdict_and_a_reason(folders):
    row = only(compare.build(ablation(), folders.grid(clusters=["one document"] * 60)))
    assert (row["verdict"], row["ci95"], row["p"]) == ("no-verdict", [None, None], None)
    assert "more than one cluster" in row["reason"]


def test_validation_is_used_and_named_where_there_is_no_test_split(folders):
    assert only(compare.build(ablation(), folders.grid(split="validation")))["split"] == "validation"


def test_the_cost_of_every_arm_is_there(folders):
    facts = compare.build(ablation(), folders.grid())["arms"]["ner-bert"]
    assert facts["stock"]["num_variant_parameters"] == 0
    assert facts["gate"]["num_variant_parameters"] == 4
    assert facts["gate"]["num_parameters"] == 104
    assert facts["gate"]["train_seconds"] == 20
    assert facts["gate"]["peak_memory_bytes"] == 3000
    assert facts["gate"]["best_step"] == [30, 30, 30]
    assert facts["gate"]["proof"]["max_difference"] == 0


def test_a_cell_without_any_finished_run_still_has_its_row(folders):
    plan = ablation(cells=("ner-bert", "ner-gpt2"))
    rows = compare.build(plan, folders.grid())["comparisons"]
    assert [row["cell"] for row in rows] == ["ner-bert", "ner-gpt2"]
    assert (rows[1]["verdict"], rows[1]["difference"], rows[1]["metric"]) == ("no-verdict", None, "f1")
    assert rows[0]["p_holm"] == min(1.0, 2 * rows[0]["p"])


# ---- runs that cannot be paired
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"environment": {"threads": 2}}, "threads"),
        ({"environment": {"processes": 2}}, "processes"),
        ({"environment": {"max_tokens": 8192}}, "max_tokens"),
        ({"environment": {"device": "cuda:0"}}, "device"),
        ({"environment": {"versions": VERSIONS | {"torch": "2.14.0"}}}, "version of torch"),
        ({"batches_hash": "other"}, "different batches"),
        ({"ids": [f"x{n}" for n in range(60)]}, "other test examples, from row 1"),
        ({"ids": [str(n) for n in range(59)] + ["x"]}, "from row 60"),
        ({"clusters": ["all"] * 60}, "other test examples"),
    ],
)
def test_runs_that_cannot_be_paired_are_refused_by_field_with_the_remedy(folders, change, named):
    folders.grid(seeds=(1, 2))
    folders.add("stock", 3)
    folders.add("gate", 3, **change)
    with pytest.raises(UserError, match=named) as error:
        compare.build(ablation(), folders.runs)
    assert "--fresh" in str(error.value)
    assert "gate, seed 3" in str(error.value)


def test_another_device_of_the_same_kind_is_fine(folders):
    for seed in (1, 2, 3):
        folders.add("stock", seed, environment={"device": "cuda:0"})
        folders.add("gate", seed, environment={"device": "cuda:1"})
    assert only(compare.build(ablation(), folders.runs))["p"] is not None


def test_two_arms_that_read_one_folder_are_refused(folders):
    runs = folders.grid(arms=("stock",))
    for seed in (1, 2, 3):
        runs["ner-bert", "again", seed] = runs["ner-bert", "stock", seed]
    with pytest.raises(UserError, match="one run in one folder"):
        compare.build(ablation(arms=("stock", "again")), runs)


def test_other_batches_are_flagged_where_a_setting_explains_them(folders):
    for seed in (1, 2, 3):
        folders.add("stock", seed)
        folders.add("gate", seed, batches_hash="other", config={"batch_size": 32}, dropout_paired=False)
    flags = only(compare.build(ablation(), folders.runs))["flags"]
    assert "batches are not shared: batch_size differs" in flags
    assert "dropout masks are not shared" in flags


def test_statistics_that_do_not_give_the_manifests_score_are_refused(folders):
    folders.grid(seeds=(1, 2))
    folders.add("stock", 3)
    folders.add("gate", 3, scores={"test": {"f1": 61.5}})
    with pytest.raises(UserError, match=r"f1 is 61\.5 in manifest"):
        compare.build(ablation(), folders.runs)


def test_a_missing_column_is_named(folders):
    folders.grid()
    manifest = folders.root / "cells/ner-bert-gate-2/manifest.json"
    content = json.loads(manifest.read_text())
    content["metrics"]["f1"]["columns"].append("support")
    manifest.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"f1\.support"):
        compare.build(ablation(), folders.runs)
