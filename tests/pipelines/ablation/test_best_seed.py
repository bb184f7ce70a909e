"""The best seed of each arm, which `keep: best_seed` keeps and a push publishes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.ablation.best_seed import best_seeds
from pipelines.ablation.folder import open_ablation
from pipelines.storage.sealed import sealed
from tests.pipelines import stored_ablation


def set_score(folder: Path, score: float | None, *, higher_is_better: bool) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["scores"]["validation"] = {} if score is None else {"f1": score}
    manifest["metrics"]["f1"]["higher_is_better"] = higher_is_better
    path.write_text(json.dumps(sealed(manifest)))


@pytest.mark.parametrize(
    ("higher_is_better", "scores", "best"),
    [
        (True, (41.0, 43.0, 42.0), 2),
        (False, (41.0, 43.0, 42.0), 1),  # such as perplexity, whose sign is turned
        (False, (None, 43.0, 42.0), 3),  # no score is worse than any score
        (True, (42.0, 42.0, 41.0), 1),  # the first of equal scores
    ],
)
def test_the_best_seed_has_the_best_validation_score(tmp_path, higher_is_better, scores, best):
    stored = open_ablation(stored_ablation.write(tmp_path))
    for cell in stored.cells:
        if cell.arm == "gate":
            set_score(cell.folder, scores[cell.seed - 1], higher_is_better=higher_is_better)
    found = best_seeds(stored.cells)
    assert found.keys() == {("toy", "stock"), ("toy", "gate")}
    assert found["toy", "gate"].seed == best
