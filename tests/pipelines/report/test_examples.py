"""The influence of examples against leaving them out, and when their text may be shown."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import synthetic

from pipelines import report
from pipelines.comparison import compare
from pipelines.metrics import load
from pipelines.report import data, examples
from pipelines.report.side_by_side import Word, words

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> tuple[dict, Path]:
    """Real run folders compared by the real `compare.build`: what the report is written from."""
    root = tmp_path_factory.mktemp("examples")
    synthetic.build(root, arms=("gate",), metrics=("f1",), seeds=SEEDS)
    runs = {}
    for place, arm in enumerate(("stock", "gate")):
        for seed in SEEDS:
            folder = root / "cells" / f"00-{place:02d}-{seed}"
            synthetic.write_predictions(folder, seed, 0.7 + 0.1 * place, num_examples=61)
            runs["ner-minilm", arm, seed] = folder
    cell = {"task": {"name": "ner"}, "model": {"name": "minilm"}}
    ablation = {
        "cells": {"ner-minilm": cell},
        "arms": {"stock": [], "gate": ["gate"]},
        "baseline": "stock",
        "seeds": list(SEEDS),
        "primary": {"ner": "f1"},
        "margin": {"f1": 0.5},
    }
    return compare.build(ablation, runs, folder=root / "report"), root / "report"


def row_of(compared) -> data.Row:
    return data.load(*compared).primary[0]


def test_what_compare_builds_becomes_a_whole_report(compared):
    results, folder = compared
    page = {path.name: path.read_text() for path in report.write(results, folder)}["report.html"]
    for section in (
        "differences",
        "table",
        "seeds",
        "curves",
        "cost",
        "uncertainty",
        "examples",
        "arms",
        "runs",
    ):
        assert f'<section id="{section}"' in page


def test_an_influence_is_what_leaving_the_example_out_takes_away(compared):
    row = row_of(compared)
    breakdown = examples.breakdown(row, examples.Reader())
    one = load.load("entity_f1")
    pairs = examples._pairs(row, examples.Reader())
    for example in (breakdown.best[0], breakdown.worst[0]):
        changes = []
        for baseline, arm in pairs.values():
            place = baseline.ids.index(example.id)
            whole, rest = (
                [
                    float(one.score(np.delete(run.statistics["f1"], gone, axis=0).sum(axis=0)))
                    for run in (baseline, arm)
                ]
                for gone in ([], [place])
            )
            changes.append((whole[1] - whole[0]) - (rest[1] - rest[0]))
        assert example.influence == pytest.approx(np.mean(changes), abs=1e-9)
    influences = [example.influence for example in breakdown.best]
    assert influences == sorted(influences, reverse=True)
    assert breakdown.best[0].influence > 0 > breakdown.worst[0].influence


def test_bins_of_length_hold_every_example_once(compared):
    row = row_of(compared)
    bins = examples.breakdown(row, examples.Reader()).bins
    assert sum(one.num_examples for one in bins) == 61
    assert all(a.longest < b.shortest for a, b in itertools.pairwise(bins))
    assert all(len(one.differences) == len(SEEDS) for one in bins)


def test_one_bin_of_everything_has_the_difference_itself(compared, monkeypatch):
    row = row_of(compared)
    monkeypatch.setattr(examples, "BINS", 1)
    [whole] = examples.breakdown(row, examples.Reader()).bins
    assert whole.differences == pytest.approx(row.by_seed, abs=1e-9)


def page_of(results: dict, folder: Path) -> str:
    return {path.name: path.read_text() for path in report.write(results, folder)}["report.html"]


def test_texts_are_shown_only_where_the_data_may_be_published(compared):
    results, folder = compared
    shown = page_of({**results, "publish_text": {"ner-minilm": True}}, folder)
    assert "&lt;b&gt;friend&lt;/b&gt;" in shown
    for allowed in ({"ner-minilm": False}, {}):
        hidden = page_of({**results, "publish_text": allowed}, folder)
        assert "friend" not in hidden
        assert "<mark>" in hidden  # wrong labels, without their words
        assert "only labels, of ner-minilm" in hidden
        assert "difference by length" in hidden


def test_results_without_publish_text_show_no_text(compared):
    results, folder = compared
    assert results["publish_text"] == {"ner-minilm": False}
    old = {name: value for name, value in results.items() if name != "publish_text"}
    assert "friend" not in page_of(old, folder)


def test_answers_that_are_text_are_hidden_as_the_inputs_are():
    said = examples.Example("q1", 0.5, 1, "who?", ["Ada", "Ada L."], "Bob", "Ada")
    whole = examples.Breakdown(None, (), (said,), ())
    assert whole.without_texts() is None
    labels = examples.Example("s1", 0.5, 1, ["Ada", "sings"], ["B-PER", "O"], ["O", "O"], ["B-PER", "O"])
    [left] = examples.Breakdown(None, (), (labels,), ()).without_texts().best
    assert left.shown is None
    assert left.baseline == ["O", "O"]


def test_wrong_labels_are_marked_and_right_ones_are_not(compared):
    example = examples.Example(
        "x", 0.1, 1, ["Jordan", "sings"], ["B-PER", "O"], ["B-LOC", "O"], ["B-PER", "O"]
    )
    assert words(example, example.baseline) == [Word("Jordan/B-LOC", wrong=True), Word("sings")]
    assert words(example, example.arm) == [Word("Jordan/B-PER"), Word("sings")]


@pytest.mark.parametrize(
    ("line", "length"),
    [
        ({"prediction": ["O", "O"], "reference": ["O", "O"]}, 2),
        ({"prediction": "a b", "reference": "a b c"}, 3),
        ({"prediction": "Paris", "reference": ["in Paris", "Paris"]}, 2),
        ({"prediction": "", "reference": []}, 0),
        ({"prediction": "x", "reference": "y", "input": "four words are here"}, 4),
    ],
)
def test_lengths_count_words_of_the_input_else_of_the_reference(line, length):
    assert examples._length(line) == length
