"""`attnlab compare` gives the numbers of an independent computation: other libraries, other arithmetic."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import integrate, stats

from pipelines.actions.compare import Request, compare_command
from pipelines.config.load import run_from_dict
from pipelines.runs import identity
from pipelines.storage.run_folder import RunFolder
from tests.pipelines import stored_ablation as made
from tests.pipelines.predictions import files


def compared(tmp_path, *sides, **options):
    compare_command(Request(sides=[str(side) for side in sides], **options), str(tmp_path / "out"))
    return json.loads((tmp_path / "out" / "results.json").read_text())["comparisons"]


def jackknife(score, predictions, references):
    """Scores without each example."""
    return np.array(
        [
            score(predictions[:n] + predictions[n + 1 :], references[:n] + references[n + 1 :])
            for n in range(len(references))
        ]
    )


def two_way(score, base, new, references):
    """Difference, standard error, and p of Behrens and Fisher by numerical integration."""
    by_seed = np.array([score(b, references) - score(a, references) for a, b in zip(base, new)])
    without = np.stack(
        [jackknife(score, b, references) - jackknife(score, a, references) for a, b in zip(base, new)]
    )
    seeds, examples = without.shape
    spread = np.square(without - without.mean(axis=1, keepdims=True)).sum(axis=1) * (examples - 1) / examples
    mean = without.mean(axis=0)
    of_examples = np.square(mean - mean.mean()).sum() * (examples - 1) / examples
    if seeds == 1:
        of_seeds = interaction = 0.0
    else:
        of_seeds = by_seed.var(ddof=1) / seeds
        interaction = max(0.0, spread.mean() - of_examples) / (seeds - 1)
    variance = of_examples + max(0.0, of_seeds - interaction)
    ratio = by_seed.mean() / math.sqrt(variance)
    share = min(1.0, of_seeds / variance)
    if seeds == 1:
        p = 2 * stats.t.sf(abs(ratio), examples - 1)
    else:
        p = behrens_fisher(ratio, share, seeds - 1, examples - 1)
    return by_seed.mean(), math.sqrt(variance), p


def behrens_fisher(ratio, share, first, second):
    """P(|sqrt(w) T1 + sqrt(1 - w) T2| > ratio), integrated over T1."""
    if share == 1:
        return 2 * stats.t.sf(abs(ratio), first)

    def tail(x):
        a = (abs(ratio) - math.sqrt(share) * x) / math.sqrt(1 - share)
        return stats.t.sf(a, second) * stats.t.pdf(x, first)

    return 2 * integrate.quad(tail, -np.inf, np.inf, limit=300, epsabs=1e-12)[0]


def agree(row, wanted):
    difference, error, p = wanted
    assert row["difference"] == pytest.approx(difference, rel=1e-9)
    assert row["se"] == pytest.approx(error, rel=1e-9)
    assert row["p"] == pytest.approx(p, rel=2e-3, abs=1e-9)


def test_three_seeds_of_run_ner_by_seqeval(tmp_path):
    from seqeval.metrics import f1_score

    gold = files.tagged(40)
    sides = {"base": 0.3, "new": 0.1}
    read = {name: [files.blurred(gold, share, seed) for seed in (1, 2, 3)] for name, share in sides.items()}
    for name, seeds in read.items():
        for seed, tags in enumerate(seeds, start=1):
            files.run_ner(tmp_path / f"{name}-{seed}" / "predictions.txt", tags)
    references = files.conll(tmp_path / "test.conll", gold)
    patterns = [tmp_path / f"{name}-*" / "predictions.txt" for name in sides]
    row = compared(tmp_path, *patterns, task="ner", references=str(references), margin=1.0)[0]
    agree(row, two_way(lambda p, r: 100 * f1_score(r, p), read["base"], read["new"], gold))
    assert (row["metric"], row["arm"], row["seeds"], row["n_examples"]) == ("f1", "new", [1, 2, 3], 40)


def test_one_translation_a_side_by_sacrebleu(tmp_path):
    import sacrebleu

    chance = np.random.default_rng(2)
    words = ["das", "alte", "Haus", "am", "Fluss", "steht", "leer", "seit", "Jahren", "und", "wartet"]
    gold = [" ".join(chance.choice(words, 9)) for _ in range(40)]

    def worse(share):
        return [" ".join("ein" if chance.random() < share else word for word in t.split()) for t in gold]

    base, new = worse(0.25), worse(0.1)
    new[-1] = ""  # the file then ends in a line feed
    paths = [
        files.run_translation(tmp_path / n / "generated_predictions.txt", t)
        for n, t in (("a", base), ("b", new))
    ]
    references = files.text(tmp_path / "ref.txt", "\n".join(gold) + "\n")
    settings = ["task.target_language=de"]
    options = {"task": "translation", "references": str(references), "settings": settings}
    row = compared(tmp_path, *paths, **options)[0]
    agree(row, two_way(lambda p, r: sacrebleu.corpus_bleu(p, [r]).score, [base], [new], gold))
    assert row["verdict"] == "better"
    text = " ".join((tmp_path / "out" / "report.md").read_text().split())
    assert "this is about these models, not about how they were trained" in text
    assert "A comparison after the fact: nothing was registered" in text
    assert "<h1>" in (tmp_path / "out" / "report.html").read_text()


def test_answers_of_run_qa_against_a_run_of_ours(tmp_path):
    from pipelines.metrics.squad import Squad
    from tests.pipelines.predictions import squad

    gold = squad.gold(30)
    ours, theirs = squad.answers(gold, 0.5, 1), squad.answers(gold, 0.2, 2)
    run = squad.run(tmp_path / "ours", gold, ours)
    path = files.text(
        tmp_path / "qa" / "predict_predictions.json",
        json.dumps({f"q{n}": text for n, text in reversed(list(enumerate(theirs)))}),
    )
    rows = compared(tmp_path, run, path)
    [row] = [row for row in rows if row["metric"] == "f1"]
    agree(row, two_way(squad.official_f1, [ours], [theirs], gold))
    assert (row["task"], row["n_examples"], row["baseline"]) == ("question_answering", 30, "ours")
    assert row["signature"] == Squad("f1").signature


def test_a_run_of_ours_against_run_ner(tmp_path):
    from seqeval.metrics import f1_score

    config = made.config(arms=("stock", "gate"))
    run = run_from_dict(config.run_config("toy", "gate", 1).to_dict())
    evaluation = made.tagged_sentences(run)
    made.finish(tmp_path / "ours", run, identity.describe(run), evaluation=evaluation)
    labels = {"task_state": {"labels": ["O", "B-PER", "B-LOC"]}}
    made.forge(tmp_path / "ours" / "manifest.json", {**RunFolder(tmp_path / "ours").manifest(), **labels})
    gold = evaluation.references
    theirs = [["O" if n % 5 == 0 else tag for n, tag in enumerate(tags)] for tags in gold]
    path = files.run_ner(tmp_path / "theirs" / "predictions.txt", theirs)
    row = compared(tmp_path, tmp_path / "ours", path)[0]

    def score(p, r):
        return 100 * f1_score(r, p)

    assert row["baseline_scores"][0] == pytest.approx(score(evaluation.predictions, gold))
    agree(row, two_way(score, [evaluation.predictions], [theirs], gold))


def test_scores_of_a_harness_by_a_paired_t_test(tmp_path):
    chance = np.random.default_rng(9)
    base = chance.binomial(1, 0.5, 60).tolist()
    new = [max(value, int(chance.random() < 0.4)) for value in base]
    paths = [
        files.lm_eval(tmp_path / name / "samples_gsm8k.jsonl", {"strict": v, "flexible": v[::-1]})
        for name, v in (("base", base), ("new", new))
    ]
    row = compared(tmp_path, *paths, scores=["exact_match,strict"], margin=0.05)[0]
    wanted = stats.ttest_rel(new, base)
    assert row["difference"] == pytest.approx(np.mean(new) - np.mean(base))
    assert row["p"] == pytest.approx(wanted.pvalue, rel=1e-6)
    assert row["ci95"] == pytest.approx(wanted.confidence_interval(0.95), rel=1e-6)
    assert (row["scale"], row["task"]) == ("own", "scores")
