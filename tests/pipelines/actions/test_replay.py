"""A run that the registration's digest draws is trained again: a forged one has other bits."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet
import pytest
import yaml

from pipelines.ablation.folder import open_ablation
from pipelines.actions import replay
from pipelines.cli.main import main
from pipelines.metrics.load import load
from pipelines.storage.run_folder import RunFolder
from tests.pipelines import stored_ablation as made
from tests.pipelines.ablation.test_ablation import TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run that was really trained, in two steps."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "run.yaml").write_text(yaml.safe_dump(TINY["cells"]["toy"][0] | {"max_steps": 2}))
    assert main(["train", str(folder / "run.yaml"), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_only_the_digest_chooses_the_runs(tmp_path):
    cells = open_ablation(made.write(tmp_path, seeds=[1, 2, 3])).cells
    first = replay.drawn(cells, "aa", 1)
    assert replay.drawn(list(reversed(cells)), "aa", 1) == first
    counts = Counter(replay.drawn(cells, f"digest {number}", 1)[0].label for number in range(600))
    assert len(counts) == 6
    assert min(counts.values()) > 60
    assert len(set(replay.drawn(cells, "aa", 4))) == 4


def test_an_honest_run_has_the_same_bits_and_a_forged_one_has_not(run, capsys):
    assert main(["verify", str(run), "--replay", "1"]) == 0
    assert "trained again: " in capsys.readouterr().out
    forge(run)
    assert main(["verify", str(run)]) == 0  # statistics, scores and hashes agree with each other
    assert main(["verify", str(run), "--replay", "1"]) == 1
    out = capsys.readouterr().out
    assert "trained again, it is different (" in out
    assert "the conditions are equal, so the bits should be" in out


def forge(run: Path) -> None:
    """Answer every third example rightly, and make statistics, scores and hashes agree with that."""
    folder, manifest = RunFolder(run), json.loads((run / "manifest.json").read_text())
    lines = [json.loads(line) for line in (run / "predictions.test.jsonl").read_text().splitlines()]
    for line in lines[::3]:
        line["prediction"] = line["reference"]
    clusters = pyarrow.parquet.read_table(run / "statistics.test.parquet")["cluster"].to_pylist()
    metrics = {name: load(one["module"], one["options"]) for name, one in manifest["metrics"].items()}
    statistics = {
        name: np.stack([metric.statistics(line["prediction"], line["reference"]) for line in lines])
        for name, metric in metrics.items()
    }
    evaluation = SimpleNamespace(
        ids=[line["id"] for line in lines],
        clusters=clusters,
        predictions=[line["prediction"] for line in lines],
        references=[line["reference"] for line in lines],
        metrics=metrics,
        statistics=statistics,
    )
    folder.write_evaluation("test", evaluation)
    manifest["scores"]["test"] = {
        name: float(metric.score(statistics[name].sum(axis=0))) for name, metric in metrics.items()
    }
    folder.finish(manifest)
