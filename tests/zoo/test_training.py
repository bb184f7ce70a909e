"""Fine-tuning NER from a checkpoint: the stock arm's loss is that of a plain loop, step by step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from pipelines.cli.main import main
from tests.zoo import cells
from tests.zoo.families import FAMILIES, save
from tests.zoo.oracle import Oracle
from tests.zoo.texts import ROWS

# As microsoft/deberta-v3-base has them.
V3 = {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_buckets": 256}
SHAPED = {
    "deberta-v3": replace(FAMILIES["deberta-v3"], quirks={**FAMILIES["deberta-v3"].quirks, **V3}),
    "modernbert": FAMILIES["modernbert"],
}
STEPS, RATE, EPSILON = 8, 2e-3, 1e-8
BOUND = 2e-4  # relative: Adam divides by the root of small gradients, so rounding grows from step to step


def trained(family: str, folder: Path, attention: list) -> tuple[Path, list[float]]:
    checkpoint = save(SHAPED[family], "ner", folder / "checkpoint")
    settings = cells.write_settings(SHAPED[family], "ner", checkpoint, folder, {})
    values = yaml.safe_load(settings.read_text(encoding="utf-8"))
    values |= {"attention": attention, "max_steps": STEPS, "learning_rate": RATE, "schedule": "constant"}
    values |= {"adam_epsilon": EPSILON, "max_grad_norm": None, "eval_every_steps": STEPS}
    settings.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert main(["train", str(settings), "--out", str(folder / "run")]) == 0
    lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return folder / "run", [row["loss"] for row in map(json.loads, lines) if row["event"] == "step"]


def plain_losses(family: str, checkpoint: Path) -> list[float]:
    """Train the stock class of transformers on all rows at once, one forward for each."""
    oracle = Oracle(SHAPED[family], "ner", checkpoint)
    readings = [oracle.read(row) for row in ROWS["ner"]]
    num_targets = sum(reading.num_targets for reading in readings)
    optimizer = torch.optim.AdamW(oracle.model.parameters(), lr=RATE, weight_decay=0.0, eps=EPSILON)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        total = 0.0
        for reading in readings:
            ids, labels = torch.tensor([reading.ids]), torch.tensor([reading.labels])
            batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
            loss = oracle.model(**batch).loss * reading.num_targets / num_targets
            loss.backward()
            total += loss.item()
        optimizer.step()
        losses.append(total)
    return losses


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["deberta-v3", "modernbert"])
def test_the_stock_arm_learns_as_the_stock_class_does(family, tmp_path):
    _, ours = trained(family, tmp_path, ["stock"])
    plain = plain_losses(family, tmp_path / "checkpoint")
    assert len(ours) == STEPS
    assert ours == pytest.approx(plain, rel=BOUND)
    assert ours[-1] < 0.9 * ours[0]


@pytest.mark.filterwarnings("ignore")
def test_a_variant_on_deberta_is_pushed_with_its_adapter_and_checked_as_a_stranger(tmp_path, capsys):
    run, losses = trained("deberta-v3", tmp_path, [{"temperature": {"per": "head"}}, "gate"])
    assert losses[-1] < 0.9 * losses[0]
    assert main(["push", str(run), "someone/deberta-gate", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "modeling_attnlab_deberta_v2.py" in said
