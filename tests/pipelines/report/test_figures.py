"""Marks are at the places of their numbers, thinned curves keep their means, colours differ for everyone."""

from __future__ import annotations

import itertools
import math
import re
import statistics
import xml.etree.ElementTree as ElementTree

import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipelines.comparison.significance import Variance
from pipelines.report import data, sentences
from pipelines.report.figures import curves, forest, palette, seeds, svg, variance

SVG = "{http://www.w3.org/2000/svg}"
VALUES = st.floats(-1e4, 1e4, allow_nan=False)


@given(VALUES, st.floats(1e-3, 1e4), st.integers(2, 9))
def test_ticks_are_round_and_inside(low, width, wanted):
    scale = svg.Scale(low, low + width, 0, 100)
    ticks = scale.ticks(wanted)
    assert len(ticks) <= wanted + 1
    assert all(scale.low - 1e-6 * width <= tick <= scale.high + 1e-6 * width for tick in ticks)
    assert all(b > a for a, b in itertools.pairwise(ticks))


@given(st.lists(st.lists(VALUES, min_size=1, max_size=4), min_size=1, max_size=12))
def test_an_axis_of_effects_holds_zero_and_the_middle_row(reach):
    low, high = svg.domain(reach)
    assert low < 0 < high
    middle = statistics.median(max(map(abs, row)) for row in reach if any(row)) if any(map(any, reach)) else 0
    ordinary = [row for row in reach if max(map(abs, row)) <= middle]
    assert all(low <= value <= high for row in ordinary for value in row)


def test_one_wild_row_does_not_squeeze_the_others():
    low, high = svg.domain([[-0.5, 0.7], [-0.2, 0.9], [-60.0, 40.0]])
    assert high < 3
    assert low > -3


def test_no_two_arms_look_alike():
    looks = set()
    for place in range(36):
        mark = ElementTree.fromstring(svg.mark(0, 0, place))
        looks.add((mark.tag, mark.get("points"), mark.get("class")))
    assert len(looks) == 36


def test_the_forest_puts_marks_and_intervals_at_their_values(tmp_path):
    results = synthetic.build(tmp_path, arms=("a", "b", "c"), with_runs=False, metrics=("f1",))
    results["comparisons"][2]["verdict"] = "equivalent"
    known = data.load(results, tmp_path / "report")
    tree = ElementTree.fromstring(forest.draw(known))
    bars = [
        (float(bar.get("x1")), float(bar.get("x2")))
        for bar in tree.iter(f"{SVG}line")
        if bar.get("class") == "bar"
    ]
    zero = next(float(line.get("x1")) for line in tree.iter(f"{SVG}line") if line.get("class") == "zero")
    assert len(bars) == 3
    unit = (bars[0][1] - bars[0][0]) / (known.primary[0].ci95[1] - known.primary[0].ci95[0])
    for (left, right), row in zip(bars, known.primary):
        assert left == pytest.approx(zero + unit * row.ci95[0], abs=0.3)
        assert right == pytest.approx(zero + unit * row.ci95[1], abs=0.3)
    band = next(rect for rect in tree.iter(f"{SVG}rect") if rect.get("class") == "band")
    assert float(band.get("width")) == pytest.approx(unit * 2 * 0.5, abs=0.3)
    named = [mark for mark in tree.iter() if mark.get("class", "").startswith("mark") and len(mark)]
    hollow = ["hollow" in mark.get("class") for mark in named]
    assert hollow == [not row.settled for row in known.primary]


def test_thinning_keeps_the_mean_and_the_ends_of_time():
    curve = [(step, math.sin(step / 7) + step / 50) for step in range(1, 998)]
    thinned = curves.thin(curve, 40)
    assert len(thinned) == 40
    assert statistics.fmean(y for _, y in thinned) == pytest.approx(
        statistics.fmean(y for _, y in curve), abs=0.02
    )
    assert thinned[0][0] < 20
    assert thinned[-1][0] > 980
    assert curves.thin(curve[:30], 40) == curve[:30]


def test_a_diverged_loss_ends_its_line(tmp_path):
    import random

    synthetic.write_run(tmp_path, "gate", 1, 50.0, ("f1",), 40, random.Random(0), diverge_at=25)
    run = data.RunLink("ner", "gate", 1, tmp_path, "x/")
    losses, _ = curves.read(run, "f1")
    assert [step for step, _ in curves.thin(losses, 100)] == list(range(1, 25))


def test_nothing_is_drawn_after_a_loss_that_was_no_number():
    curve = [(1, 2.0), (2, 1.5), (3, math.nan), (4, 1.0)]
    assert curves.thin(curve, 10) == curve[:2]


def test_a_cut_off_last_line_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"event":"step","step":1,"loss":2.0}\n{"event":"st')
    assert curves.read(data.RunLink("ner", "gate", 1, tmp_path, "x/"), "f1") == ([(1, 2.0)], [])


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=12), st.floats(-3, 3))
def test_the_mean_of_shifted_curves_is_the_shifted_curve(ys, shift):
    base = [(10.0 * n, y) for n, y in enumerate(ys)]
    moved = [(x, y + 2 * shift) for x, y in base]
    for (x, y), (at, middle) in zip(base, curves.mean_curve([base, moved])):
        assert at == x
        assert middle == pytest.approx(y + shift, abs=1e-9)


def test_a_mean_stops_where_the_first_seed_stops():
    long, short = [(float(n), 1.0) for n in range(10)], [(float(n), 3.0) for n in range(4)]
    assert curves.mean_curve([long, short])[-1] == (3.0, 2.0)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8, unique=True))
def test_the_interval_over_seeds_is_that_of_scipy(differences):
    low, high = seeds.seeds_interval(differences)
    oracle = stats.t.interval(
        0.95,
        len(differences) - 1,
        statistics.fmean(differences),
        statistics.stdev(differences) / len(differences) ** 0.5,
    )
    assert (low, high) == pytest.approx(oracle, rel=1e-9, abs=1e-9)


@given(st.floats(0, 4), st.floats(0, 4), st.floats(0, 4))
def test_shares_of_variance_add_up_to_one(seed_part, example_part, both):
    parts = Variance(seed_part + both, example_part + both, both, seed_part + example_part + both)
    shares = variance.shares(parts)
    total = seed_part + example_part + both
    if total < 1e-9:
        return
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx((seed_part / total, both / total, example_part / total), abs=1e-6)


def test_the_same_paired_curve_is_drawn_for_metrics_where_less_is_better(tmp_path):
    results = synthetic.build(tmp_path, arms=("a",), metrics=("loss_like",))
    results["comparisons"][0] |= {"higher_is_better": False}
    known = data.load(results, tmp_path / "report")
    run = known.runs_of("ner-minilm", "a")[0]
    stock = known.runs_of("ner-minilm", "stock")[0]
    paired = curves._differences(
        {"stock": {1: curves.read(stock, "loss_like")[1]}, "a": {1: curves.read(run, "loss_like")[1]}},
        "stock",
        -1,
    )
    first = curves.read(stock, "loss_like")[1][0][1] - curves.read(run, "loss_like")[1][0][1]
    assert paired["a"][1][0][1] == pytest.approx(first)


# ---- colours
SIGHT = {  # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deutan": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritan": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def linear(colour: str) -> list[float]:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]


def seen(colour: str, sight: str) -> tuple[float, float, float]:
    """OKLab coordinates of a colour as someone with this sight sees it."""
    r, g, b = (
        min(1.0, max(0.0, sum(weight * part for weight, part in zip(row, linear(colour)))))
        for row in SIGHT[sight]
    )
    long = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    middle = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    short = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


def contrast(first: str, second: str) -> float:
    low, high = sorted(
        sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear(x))) for x in (first, second)
    )
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("arms", [palette.LIGHT_ARMS, palette.DARK_ARMS], ids=["light", "dark"])
def test_colours_of_arms_differ_under_every_kind_of_sight(arms, sight):
    closest = min(math.dist(seen(a, sight), seen(b, sight)) for a, b in itertools.combinations(arms, 2))
    assert closest > 0.08


@pytest.mark.parametrize(
    ("theme", "arms"), [(palette.LIGHT, palette.LIGHT_ARMS), (palette.DARK, palette.DARK_ARMS)]
)
def test_marks_and_words_stand_out_from_the_page(theme, arms):
    for ground in (theme["page"], theme["raised"]):
        assert all(contrast(colour, ground) >= 3 for colour in arms)
        assert contrast(theme["soft"], ground) >= 4.5
        assert contrast(theme["ink"], ground) >= 7
        assert contrast(theme["link"], ground) >= 4.5
    assert contrast(theme["ink"], theme["band"]) >= 7


# ---- words
def test_every_verdict_has_its_sentence(tmp_path):
    results = synthetic.build(tmp_path, arms=("gate",), metrics=("f1",), with_runs=False)
    for verdict in (*data.VERDICTS, "better, within the margin"):
        results["comparisons"][0] |= {"verdict": verdict, "reason": "2 of 3 seeds diverged"}
        row = data.load(results, tmp_path).primary[0]
        sentence = sentences.comparison(row)
        assert (
            verdict.split(",")[0].replace("no-verdict", "no verdict").replace("non-inferior", "not worse")
            in sentence
        )
        assert not re.search(r"None|nan|\{", sentence)
    assert "within the margin" in sentence


def test_a_log_scale_also_tells_the_ratio(tmp_path):
    results = synthetic.build(tmp_path, arms=("gate",), metrics=("perplexity",), with_runs=False)
    results["comparisons"][0] |= {
        "scale": "log",
        "ratio": 0.9712,
        "ratio_ci95": [0.961, 0.982],
        "verdict": "better",
    }
    assert "ratio 0.97" in sentences.comparison(data.load(results, tmp_path).primary[0])


def test_a_registration_that_changed_is_reported(tmp_path):
    results = synthetic.build(tmp_path, with_runs=False)
    assert "unchanged since" in sentences.registration(data.load(results, tmp_path))
    results["registration"]["changed_afterwards"] = ["margin", "seeds"]
    assert "changed afterwards: margin; seeds" in sentences.registration(data.load(results, tmp_path))
    results["registration"] |= {"changed_afterwards": [], "finished_before": {"stock": 3}}
    sentence = sentences.registration(data.load(results, tmp_path))
    assert "before the first run of an arm; 3 runs of stock had been made" in sentence
    results["registration"]["finished_before"]["gate"] = 2
    sentence = sentences.registration(data.load(results, tmp_path))
    assert "2 runs of these arms existed before" in sentence
    assert "exploratory" in sentence
    results["registration"] = None
    assert "Not registered" in sentences.registration(data.load(results, tmp_path))


@pytest.mark.parametrize("x", [0.0, 4.0, 61.0, 122.0, 126.0])
def test_the_number_of_a_tick_stays_in_its_picture(x):
    drawn = svg.tick(x, 80, -1234.5, 126)
    at = float(re.search(r' x="([^"]+)"', drawn)[1])
    half = 3.5 * len("−1234.5")  # of its width
    assert half <= at <= 126 - half
    assert at == x or x < half + 1 or x > 126 - half - 1
