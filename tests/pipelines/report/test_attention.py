"""Heat maps show the recorded diagnostics: means over seeds and paired differences; a note without any."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from statistics import fmean

import pytest
import synthetic

from pipelines import report
from pipelines.comparison.results import to_json
from pipelines.report import attention, data
from pipelines.report.figures import heatmap

SVG = "{http://www.w3.org/2000/svg}"


def site(stack="encoder", kind="self", layer=0, entropy=(0.5, 0.25), gate=None, learned=None) -> dict:
    where = {"name": "site", "stack": stack, "kind": kind, "layer": layer}
    return where | {
        "entropy": list(entropy),
        "sink_mass": [0.125] * len(entropy),
        "gate": gate,
        "learned": learned or {},
    }


def kept(root: Path, lines: dict[tuple[str, int], list[dict]], seeds=(1, 2, 3)) -> data.ReportData:
    """The report of one cell with arm "gate", whose runs keep `lines` as their final diagnostics."""
    results = synthetic.build(root, arms=("gate",), seeds=seeds)
    known = data.load(results, root / "report")
    for (_, arm, seed), run in known.runs.items():
        path = run.folder / "diagnostics.jsonl"
        path.unlink()
        if (arm, seed) in lines:
            before = {"step": 1, "final": False, "sites": [site(entropy=(0.99, 0.99))]}
            last = {"step": 9, "final": True, "sites": lines[arm, seed]}
            path.write_text(f"{json.dumps(before)}\n{json.dumps(last)}\n")
    return known


def test_a_map_is_the_mean_over_seeds_and_a_difference_pairs_them(tmp_path):
    known = kept(
        tmp_path,
        {
            ("stock", 1): [site(entropy=(0.5, 0.25))],
            ("stock", 2): [site(entropy=(0.7, None))],
            ("gate", 2): [site(entropy=(0.6, 0.5))],
            ("gate", 3): [site(entropy=(0.1, 0.3))],
        },
    )
    seen = attention.of_cell(known, "ner-minilm")
    assert seen["stock"].mean(attention.ENTROPY) == ((pytest.approx(0.6), 0.25),)
    assert seen["gate"].mean(attention.ENTROPY) == ((pytest.approx(0.35), pytest.approx(0.4)),)
    assert seen["gate"].minus(seen["stock"], attention.ENTROPY) == (
        (pytest.approx(-0.1), None),
    )  # seed 2 alone


def test_an_end_that_was_not_reached_is_not_shown(tmp_path):
    known = kept(tmp_path, {("stock", 1): [site()]})
    [run] = [run for run in known.runs.values() if (run.arm, run.seed) == ("stock", 1)]
    path = run.folder / "diagnostics.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert attention.of_cell(known, "ner-minilm") == {}


def test_sites_of_two_stacks_have_the_stack_in_their_names(tmp_path):
    stacks = [site("encoder"), site("decoder", layer=1), site("decoder", "cross", layer=1)]
    known = kept(tmp_path, {("stock", 1): stacks, ("gate", 1): [site(), site(layer=1)]})
    seen = attention.of_cell(known, "ner-minilm")
    assert seen["stock"].sites == ("enc 0", "dec 1", "cross 1")
    assert seen["gate"].sites == ("0", "1")


def test_what_an_arm_learned_is_drawn_around_stock(tmp_path):
    learned = {"temperature.log_temperature": [-0.2], "gate.weight.rms": [0.5, 1.0]}
    mine = [site(gate={"mean": [1.5, 0.75]}, learned=learned)]
    known = kept(tmp_path, {("stock", 1): [site()], ("gate", 1): mine})
    seen = attention.of_cell(known, "ner-minilm")
    assert seen["stock"].own == []
    assert seen["gate"].mean(attention.GATE) == ((0.5, -0.25),)
    panels = heatmap.draw(known, seen)[attention.OWN]
    shades = [
        [
            (tile.get("class"), tile.get("fill-opacity"))
            for tile in ElementTree.fromstring(panel).iter(f"{SVG}rect")
        ]
        for panel in panels
    ]
    assert [row[: len(row) - heatmap.STEPS] for row in shades] == [
        [("tile more", "1.00"), ("tile less", ".50")],
        [("tile less", "1.00")],
        [("tile", ".50"), ("tile", "1.00")],
    ]


def test_tiles_stand_in_layers_and_heads_and_are_as_dark_as_their_number(tmp_path):
    rows = [(0.1, 0.2, 0.3), (0.4, 0.5, 0.6)]
    known = kept(tmp_path, {("stock", 1): [site(layer=n, entropy=row) for n, row in enumerate(rows)]})
    [panel] = heatmap.draw(known, attention.of_cell(known, "ner-minilm"))[attention.ENTROPY]
    layers = list(ElementTree.fromstring(panel).iter(f"{SVG}g"))
    assert len(layers) == len(rows)
    for layer, row in zip(layers, rows):
        tiles = list(layer.iter(f"{SVG}rect"))
        assert len({tile.get("y") for tile in tiles}) == 1
        assert [float(tile.get("x")) for tile in tiles] == sorted(float(tile.get("x")) for tile in tiles)
        assert [float(tile.get("fill-opacity")) for tile in tiles] == list(row)


def test_old_runs_say_that_they_kept_nothing(tmp_path):
    known = kept(tmp_path, {})
    page = {path.name: path.read_text() for path in report.write(to_json(known.results), known.folder)}
    assert "has attention diagnostics" in page["report.html"]
    assert "## Attention" not in page["report.md"]
    some = kept(tmp_path, {("stock", 1): [site()]})
    page = {path.name: path.read_text() for path in report.write(to_json(some.results), some.folder)}
    assert "Missing for the runs of gate on ner-minilm." in page["report.html"]


def test_the_markdown_report_has_the_means(tmp_path):
    learned = {"temperature.log_temperature": [-0.25, 0.5]}
    mine = {("gate", seed): [site(entropy=(0.2, 0.4), learned=learned)] for seed in (1, 2)}
    known = kept(tmp_path, mine)
    text = {path.name: path.read_text() for path in report.write(to_json(known.results), known.folder)}[
        "report.md"
    ]
    entropy, sink = fmean((0.2, 0.4)), 0.125
    assert f"| ner-minilm | gate | {entropy:.2f} | {sink:.2f} | temperature: log\\_temperature +0.125" in text
    assert "\\[−0.250, +0.500\\]" in text


def test_a_last_line_cut_off_by_a_kill_counts_as_none(tmp_path):
    known = kept(tmp_path, {("stock", 1): [site()]})
    [run] = [run for run in known.runs.values() if (run.arm, run.seed) == ("stock", 1)]
    path = run.folder / "diagnostics.jsonl"
    path.write_text(path.read_text()[:-20])
    assert attention.of_cell(known, "ner-minilm") == {}
