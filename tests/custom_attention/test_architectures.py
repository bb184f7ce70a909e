"""The script of docs/architectures.md on some types: what it measures and what it reports of the others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PASS, NO_CROSS = "pass", "n/a: no cross-attention"
CELLS = {  # swap exact, causality, padding, cache, own place, cross-attention, gradient
    "bert": (PASS, "n/a: no causal attention", PASS, "n/a: no causal attention", PASS, NO_CROSS, PASS),
    "gpt2": (PASS, PASS, PASS, PASS, PASS, NO_CROSS, PASS),
    "t5": (PASS, PASS, PASS, PASS, PASS, PASS, PASS),
    "gemma2": (PASS, PASS, PASS, PASS, PASS, NO_CROSS, PASS),
    "vit": (PASS, "n/a: no causal attention", "n/a: no token ids", "n/a: no cache", PASS, NO_CROSS, PASS),
    "encoder-decoder": (PASS, PASS, PASS, PASS, PASS, PASS, PASS),
    "t5gemma2": (PASS, PASS, PASS, PASS, PASS, NO_CROSS, PASS),
    "time_series_transformer": (PASS, *["n/a: no token ids"] * 3, PASS, PASS, PASS),
    "whisper": (PASS, PASS, "n/a: no token ids", PASS, PASS, PASS, PASS),
}


@pytest.fixture(scope="module")
def rows() -> dict[str, dict]:
    command = [sys.executable, "scripts/architectures", *CELLS, "bloom", "perceiver"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["type"]: row for row in found}


@pytest.mark.parametrize("name", CELLS)
def test_a_type_that_dispatches_passes_what_applies_to_it(rows, name):
    cells = dict(rows[name]["cells"])
    explicit = cells.pop("explicit path")
    assert tuple(cells.values()) == CELLS[name]
    assert explicit == PASS if name != "gemma2" else "its own `softcap` inside the softmax" in explicit


def test_a_type_that_does_not_dispatch_is_refused_by_name(rows):
    assert rows["bloom"]["refused"].startswith("BloomForCausalLM: its attention does not go through")


def test_a_type_without_a_made_up_example_is_asked_for_one(rows):
    assert "pass example=" in rows["perceiver"]["refused"]


def test_the_page_holds_the_measured_table():
    page = (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    passed = [[cell.strip() == PASS for cell in line.split("|")[4:12]] for line in lines]
    swap, causality, padding, cache, own_place, cross, gradient, _explicit = zip(*passed)
    assert sum(all(three) for three in zip(swap, padding, gradient)) >= 100
    assert min(sum(causality), sum(cache)) >= 40
    assert sum(cross) >= 15
    assert sum(own_place) >= 300
    assert "fail" not in page.partition("## Reached and measured")[2].partition("Reasons:")[0]
