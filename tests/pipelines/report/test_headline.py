"""The headline of an ablation says what its verdicts say."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic

from pipelines.report import data, headline


def sentence(folder: Path, cells=("chess-bert",), **changes) -> str:
    """Return the sentence on one made-up arm, `gate`, whose comparison is changed."""
    results = synthetic.build(folder, cells=cells, arms=("gate",), metrics=("elo",), with_runs=False)
    scores = {"baseline_scores": [80.0, 82.0, 81.0], "arm_scores": [70.5, 72.5, 71.5], "margin": 1.5}
    results["comparisons"][0] |= scores | changes
    return headline.sentence(data.load(results, folder / "report"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verdict": "worse"}, "gate is worse than stock (elo 71.5 against 81.0)"),
        ({"verdict": "better", "arm_scores": [90.0, 91.0, 92.0]},
         "gate is better than stock (elo 91.0 against 81.0)"),
        ({"verdict": "worse, within the margin", "within_margin": True},
         "gate is worse than stock (elo 71.5 against 81.0), though by less than what matters"),
        ({"verdict": "equivalent"}, "gate makes no difference that matters (less than 1.5 elo either way)"),
        ({"verdict": "equivalent", "scale": "log"},
         "gate makes no difference that matters (less than 1.5 % of elo either way)"),
        ({"verdict": "non-inferior"}, "gate loses less than 1.5 elo against stock, and may be better"),
        ({"verdict": "identical"}, "gate answers exactly as stock does"),
        ({"verdict": "inconclusive"}, "these runs do not tell whether gate differs from stock"),
        ({"verdict": "no-verdict"}, "these runs do not tell whether gate differs from stock"),
        ({"verdict": "unstable"}, "these runs do not tell whether gate differs from stock"),
    ],
)  # fmt: skip
def test_every_verdict_has_its_words(tmp_path, changes, said):
    assert sentence(tmp_path, **changes).startswith(said)


def test_the_same_arm_in_several_cells_is_one_group(tmp_path):
    assert sentence(tmp_path, cells=("chess-bert", "chess-gpt2")).count("gate on chess-") == 2
