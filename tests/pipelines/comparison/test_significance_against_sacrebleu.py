"""For one seed, the p of two translation systems is that of sacrebleu's approximate randomization."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from pipelines.comparison.significance import two_way
from pipelines.metrics import load

WORDS = [f"w{n}" for n in range(40)]


def systems(seed, skill, num_sentences=120):
    """References, a baseline and a system: words are replaced at random, fewer by the better one."""
    rng = np.random.default_rng(seed)

    def corrupted(words, right):
        return " ".join(w if rng.random() < right else rng.choice(WORDS) for w in words)

    references = [rng.choice(WORDS, rng.integers(6, 20)).tolist() for _ in range(num_sentences)]
    baseline = [corrupted(words, 0.75) for words in references]
    return (
        [" ".join(words) for words in references],
        baseline,
        [corrupted(words, skill) for words in references],
    )


@pytest.mark.parametrize(("seed", "skill"), [(1, 0.75), (2, 0.77), (3, 0.79), (4, 0.83)])
def test_one_seed_agrees_with_approximate_randomization(seed, skill):
    references, baseline, system = systems(seed, skill)
    bleu = load.load("bleu")
    rows = [
        np.array([[bleu.statistics(h, r) for h, r in zip(side, references)]]) for side in (baseline, system)
    ]
    ours = two_way(*rows, bleu.score).p
    test = PairedTest(
        [("baseline", baseline), ("system", system)],
        {"BLEU": BLEU()},
        [references],
        test_type="ar",
        n_samples=2000,
    )
    theirs = test()[1]["BLEU"][1].p_value
    # both are estimates of one p: 2,000 shuffles, and a t that takes the difference as normal
    assert ours == pytest.approx(theirs, abs=0.015 + 0.12 * theirs)
